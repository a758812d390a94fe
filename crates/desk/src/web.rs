//! The web side of the desk: the socket, the guard in front of every page, forms, and what pages have in common.

pub(crate) mod assets;
pub(crate) mod fault;
pub(crate) mod form;
pub(crate) mod frame;
pub(crate) mod guard;
pub(crate) mod live;
pub(crate) mod serve;
pub(crate) mod visit;
