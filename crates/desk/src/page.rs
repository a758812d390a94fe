//! The pages, one file for each place of the menu. A page reads: who may, what is entered in the access log, what is asked of the exchange, what is shown.

pub(crate) mod sign_in;
pub(crate) mod today;

pub(crate) mod queries;
pub(crate) mod request;
pub(crate) mod requests;

pub(crate) mod documents;
pub(crate) mod notices;

pub(crate) mod log;

pub(crate) mod accessibility;

mod case_file;
mod rows;
mod steps;

/// So many things are on a page of a list.
const PAGE: usize = 25;

/// A list's pages, for templates.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    /// From 1.
    pub(crate) page: usize,
    pub(crate) last: usize,
    pub(crate) total: usize,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

impl Pages {
    /// Of a list of so many, with the address of a page but for its number.
    fn new(page: usize, total: usize, address: &str) -> Self {
        let last = total.div_ceil(PAGE).max(1);
        let page = page.clamp(1, last);
        let joined = if address.contains('?') { '&' } else { '?' };
        let to = |page: usize| format!("{address}{joined}page={page}");
        Self { page, last, total, before: (page > 1).then(|| to(page - 1)), after: (page < last).then(|| to(page + 1)) }
    }

    /// Which page it is.
    pub(crate) fn text(&self, t: &crate::language::Texts) -> String {
        t.with("page-of", &[("page", &self.page.to_string()), ("last", &self.last.to_string())])
    }
}
