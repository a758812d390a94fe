//! The rules of the domain against what is written about them.

mod error_pages;
