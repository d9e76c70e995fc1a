//! What RFC 4301, 4302 and 4303 demand (MUST, MUST NOT, SHALL), in our words, with the tests that show it. Demands on authors of
//! other documents are left out; those on key exchange and on multicast are listed as not applicable, with the reason.

mod rfc_4301;
mod rfc_4301_processing;
mod rfc_4302;
mod rfc_4303;

/// One demand.
pub struct Must {
    /// The document.
    pub rfc: u16,
    /// The section of it.
    pub section: &'static str,
    /// What must hold.
    pub text: &'static str,
    /// What shows that it does.
    pub shown: Shown,
}

/// What shows that a demand is met.
pub enum Shown {
    /// Tests, as `file: name`.
    By(&'static [&'static str]),
    /// It does not apply, for this reason.
    NotApplicable(&'static str),
}

/// All of them, in the order of the documents.
pub fn musts() -> impl Iterator<Item = &'static Must> {
    [rfc_4301::MUSTS, rfc_4301_processing::MUSTS, rfc_4302::MUSTS, rfc_4303::MUSTS].into_iter().flatten()
}

const fn must(rfc: u16, section: &'static str, text: &'static str, shown: Shown) -> Must {
    Must { rfc, section, text, shown }
}

const UNICAST: &str = "unicast SAs alone are supported, as section 4.1 of RFC 4301 allows";
const NO_IKE: &str = "there is no key exchange in the gateway; providers of SAs bring their own";
