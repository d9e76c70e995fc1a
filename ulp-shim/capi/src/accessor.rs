//! Reading and writing the attributes of tokens of either kind (section 2.2).

use std::ffi::CStr;
use std::sync::Arc;

use crate::attribute::{Value, find};
use crate::failure::Failure;
use crate::identity::IdentityToken;
use crate::token::{self, Handle, Kind, Token};

/// What `ipsec_get_token_attr` has to give: where it is a token, one that the caller has to free, which is made only once
/// there is room to write its handle to.
pub struct Reading(Value);

/// Reads an attribute.
pub fn read(handle: Handle, number: u32) -> Result<Reading, Failure> {
    match token::token(handle)? {
        Token::Identity(identity) => identity.read(find(number, Kind::Identity)?.attribute),
        Token::Protection(protection) => protection.read(find(number, Kind::Protection)?.attribute),
    }
    .map(Reading)
}

/// Writes an attribute.
pub fn write(handle: Handle, number: u32, octets: Option<&[u8]>) -> Result<(), Failure> {
    let kind = match token::token(handle)? {
        Token::Identity(_) => Kind::Identity,
        Token::Protection(_) => Kind::Protection,
    };
    let row = find(number, kind)?;
    if !row.writable {
        return Err(READ_ONLY);
    }
    let value = row.value(octets.ok_or(NO_VALUE)?)?;
    token::change(handle, |token| match token {
        Token::Identity(identity) => Arc::make_mut(identity).write(row.attribute, &value),
        Token::Protection(protection) => Arc::make_mut(protection).write(row.attribute, &value),
    })
}

/// An identity's text (C-10).
pub fn export(handle: Handle) -> Result<Reading, Failure> {
    token::identity(handle)?.export().map(|text| Reading(Value::Text(text)))
}

/// The identity of a text.
pub fn import(text: &CStr) -> Result<Handle, Failure> {
    let text = text.to_str().map_err(|_| NO_ASCII)?;
    token::keep(Token::Identity(Arc::new(IdentityToken::import(text)?)))
}

impl Reading {
    /// How many octets it takes (C-1).
    pub fn len(&self) -> usize {
        match &self.0 {
            Value::Choice(_) | Value::Count(_) => size_of::<u16>(),
            Value::Text(text) => text.len().saturating_add(1),
            Value::Octets(octets) => octets.len(),
            Value::Identity(_) => size_of::<usize>(),
        }
    }

    /// The octets.
    pub fn octets(self) -> Result<Vec<u8>, Failure> {
        match self.0 {
            Value::Choice(choice) => Ok(choice.number().to_ne_bytes().to_vec()),
            Value::Count(number) => Ok(number.to_ne_bytes().to_vec()),
            Value::Text(text) => Ok([text.as_bytes(), b"\0"].concat()),
            Value::Octets(octets) => Ok(octets),
            Value::Identity(identity) => {
                token::keep(Token::Identity(identity)).map(|handle| handle.octets().to_vec())
            }
        }
    }
}

const READ_ONLY: Failure = Failure::new(libc::EROFS, "the attribute can be read only");
const NO_ASCII: Failure = Failure::new(libc::EINVAL, "the text is none that ipsec_iToken_export() wrote");
const NO_VALUE: Failure = Failure::new(libc::EINVAL, "there is no value to write; attr_val is NULL");
