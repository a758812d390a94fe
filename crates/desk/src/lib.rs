//! The desk: a thin client in the browser for an organisation's officials.
