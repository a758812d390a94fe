//! airut
