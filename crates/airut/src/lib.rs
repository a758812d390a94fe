//! Airut: one binary, any of its roles.
//!
//! `config` says what to run, `node` runs it, `dev` makes a whole exchange with throwaway certificates out of nothing; all
//! three start through the same code. `cli` is the command line; `terminal` is what every
//! command has in common with it.

pub mod cli;
pub mod config;
pub mod node;

pub mod dev;
mod magic;
mod partners;

mod caller;
mod collect;
mod document;
mod health;
mod keys;
mod lines;
mod once;
mod partner;
mod query;
mod request;
mod send;
mod serve;
mod terminal;
mod track;
mod verify;
