//! Tokens, behind handles that are no addresses (N-7, P-3): whatever is done to one, nothing is ever dereferenced.
//!
//! A handle has the kind of its token, a slot and the generation in which the slot was given out. Generations start anywhere
//! and never come twice, so one that was freed, made up or had from another process is found out by looking it up. After
//! fork() the child has no pTokens (N-7); iTokens it keeps (N-8).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::failure::Failure;
use crate::identity::IdentityToken;
use crate::kept::{hear_of_forks, kept};
use crate::protection::ProtectionToken;

/// What a handle stands for.
#[derive(Clone, Debug)]
pub enum Token {
    /// An iToken.
    Identity(Arc<IdentityToken>),
    /// A pToken.
    Protection(Arc<ProtectionToken>),
}

/// The two kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// iTokens.
    Identity = 0,
    /// pTokens.
    Protection = 1,
}

/// What C holds: an odd number, which no pointer to anything with an alignment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(usize);

impl Handle {
    /// A handle as C gave it.
    pub fn given<T>(pointer: *const T) -> Self {
        Self(pointer.addr())
    }

    /// The same for C.
    pub fn pointer<T>(self) -> *mut T {
        std::ptr::without_provenance_mut(self.0)
    }

    /// A handle that stands in memory, as the attributes that are tokens do.
    pub const fn from_octets(octets: [u8; size_of::<usize>()]) -> Self {
        Self(usize::from_ne_bytes(octets))
    }

    /// The same for memory.
    pub const fn octets(self) -> [u8; size_of::<usize>()] {
        self.0.to_ne_bytes()
    }

    const fn new(generation: usize, slot: usize, kind: Kind) -> Self {
        Self((((generation << SLOT_BITS) | slot) << 2) | ((kind as usize) << 1) | 1)
    }

    const fn kind(self) -> Kind {
        if self.0 & 2 == 0 { Kind::Identity } else { Kind::Protection }
    }

    const fn slot(self) -> usize {
        (self.0 >> 2) & (SLOTS - 1)
    }

    /// A handle that may be one of that kind; anything else is wrong before it is looked up.
    fn of(self, kind: Kind) -> Result<Self, Failure> {
        match self.0 {
            0 => Err(NULL),
            odd if odd & 1 == 1 && self.kind() != kind => Err(WRONG_KIND),
            _ => Ok(self),
        }
    }
}

/// Keeps a token and gives its handle: ENOMEM where there are too many.
pub fn keep(token: Token) -> Result<Handle, Failure> {
    hear_of_forks()?;
    kept().tokens.keep(token)
}

/// The token behind a handle of whichever kind.
pub fn token(handle: Handle) -> Result<Token, Failure> {
    if handle.0 == 0 {
        return Err(NULL);
    }
    kept().tokens.find(handle).map(|(token, _)| token.clone())
}

/// The iToken behind a handle.
pub fn identity(handle: Handle) -> Result<Arc<IdentityToken>, Failure> {
    match token(handle.of(Kind::Identity)?)? {
        Token::Identity(identity) => Ok(identity),
        Token::Protection(_) => Err(WRONG_KIND),
    }
}

/// The pToken behind a handle.
pub fn protection(handle: Handle) -> Result<Arc<ProtectionToken>, Failure> {
    match token(handle.of(Kind::Protection)?)? {
        Token::Protection(protection) => Ok(protection),
        Token::Identity(_) => Err(WRONG_KIND),
    }
}

/// Changes a token where it is; what others have got of it before stays as it was. A change that fails changes nothing.
pub fn change(handle: Handle, change: impl FnOnce(&mut Token) -> Result<(), Failure>) -> Result<(), Failure> {
    if handle.0 == 0 {
        return Err(NULL);
    }
    let mut kept = kept();
    let (token, _) = kept.tokens.find(handle)?;
    let mut changed = token.clone();
    change(&mut changed)?;
    *token = changed;
    Ok(())
}

/// Frees a token of that kind.
pub fn free(handle: Handle, kind: Kind) -> Result<(), Failure> {
    let freed = kept().tokens.take(handle.of(kind)?)?;
    // What it held is freed when nobody is kept waiting for it.
    drop(freed);
    Ok(())
}

/// Tokens by their handles.
#[derive(Debug)]
pub struct Tokens {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The generation of the next token.
    generation: usize,
}

#[derive(Debug)]
struct Slot {
    handle: Handle,
    token: Option<Token>,
}

impl Tokens {
    /// None; their generations begin anywhere.
    pub fn new() -> Self {
        let somewhere = RandomState::new().build_hasher().finish();
        Self { slots: Vec::new(), free: Vec::new(), generation: usize::try_from(somewhere).unwrap_or(0) }
    }

    fn keep(&mut self, token: Token) -> Result<Handle, Failure> {
        let kind = match token {
            Token::Identity(_) => Kind::Identity,
            Token::Protection(_) => Kind::Protection,
        };
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot >= SLOTS {
            return Err(TOO_MANY);
        }
        self.generation = self.generation.wrapping_add(1);
        let handle = Handle::new(self.generation, slot, kind);
        let kept = Slot { handle, token: Some(token) };
        match self.slots.get_mut(slot) {
            Some(slot) => *slot = kept,
            None => self.slots.push(kept),
        }
        Ok(handle)
    }

    fn find(&mut self, handle: Handle) -> Result<(&mut Token, Kind), Failure> {
        let slot = self.slots.get_mut(handle.slot()).filter(|slot| slot.handle == handle);
        slot.and_then(|slot| slot.token.as_mut()).map(|token| (token, handle.kind())).ok_or(GONE)
    }

    fn take(&mut self, handle: Handle) -> Result<Token, Failure> {
        let slot = self.slots.get_mut(handle.slot()).filter(|slot| slot.handle == handle);
        let token = slot.and_then(|slot| slot.token.take()).ok_or(GONE)?;
        self.free.push(handle.slot());
        Ok(token)
    }

    /// pTokens are their process's alone: its child has none (N-7).
    pub fn forget_protections(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(Token::Protection(_)) = slot.token {
                slot.token = None;
                self.free.push(number);
            }
        }
    }
}

/// 2^20 tokens at a time.
const SLOT_BITS: u32 = 20;
const SLOTS: usize = 1 << SLOT_BITS;

const NULL: Failure = Failure::new(
    libc::EINVAL,
    "the token is NULL; make one with ipsec_create_pToken() or ipsec_create_iToken()",
);
const WRONG_KIND: Failure = Failure::new(
    libc::EINVAL,
    "the token is of the other kind; pTokens and iTokens do not stand in for one another",
);
const GONE: Failure = Failure::new(
    libc::EBADF,
    "there is no such token: it was freed, is another process's, or is a pToken from before a fork(); make it anew",
);
pub const TOO_MANY: Failure =
    Failure::new(libc::ENOMEM, "there is no room for another token; free those not needed any more");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use std::collections::HashMap;

    fn a_protection() -> Handle {
        keep(Token::Protection(Arc::default())).unwrap()
    }

    fn an_identity() -> Handle {
        keep(Token::Identity(Arc::default())).unwrap()
    }

    #[test]
    fn p_3_a_handle_is_no_address_and_tells_its_kind() {
        let (first, second) = (a_protection(), an_identity());
        assert_eq!((first.0 & 1, second.0 & 1), (1, 1), "aligned like nothing");
        assert_eq!((first.kind(), second.kind()), (Kind::Protection, Kind::Identity));
        assert_eq!(Handle::given(first.pointer::<u64>()), first);
        assert_eq!(Handle::from_octets(first.octets()), first);
        assert!(protection(first).is_ok() && identity(second).is_ok());
        assert_eq!(protection(second).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(identity(first).unwrap_err().errno(), libc::EINVAL);
        free(first, Kind::Protection).unwrap();
        free(second, Kind::Identity).unwrap();
    }

    /// NULL, the other kind, freed before.
    #[test]
    fn q_8_a_token_is_freed_once_and_by_its_own_destructor() {
        let handle = a_protection();
        assert_eq!(free(handle, Kind::Identity).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(free(Handle(0), Kind::Protection).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(free(handle, Kind::Protection), Ok(()));
        assert_eq!(free(handle, Kind::Protection).unwrap_err().errno(), libc::EBADF);
        assert_eq!(token(handle).unwrap_err().errno(), libc::EBADF);
        // Whoever gets the slot next is not mistaken for it.
        let next: Vec<Handle> = (0..64).map(|_| a_protection()).collect();
        assert!(!next.contains(&handle));
        assert_eq!(token(handle).unwrap_err().errno(), libc::EBADF);
        next.into_iter().for_each(|handle| free(handle, Kind::Protection).unwrap());
    }

    #[test]
    fn n_7_a_child_has_no_protection_tokens_and_keeps_the_identities() {
        let mut tokens = Tokens::new();
        let protection = tokens.keep(Token::Protection(Arc::default())).unwrap();
        let identity = tokens.keep(Token::Identity(Arc::default())).unwrap();
        tokens.forget_protections();
        assert_eq!(tokens.find(protection).unwrap_err().errno(), libc::EBADF);
        assert!(tokens.find(identity).is_ok());
        let anew = tokens.keep(Token::Protection(Arc::default())).unwrap();
        assert_eq!(anew.slot(), protection.slot());
        assert_eq!(tokens.find(protection).unwrap_err().errno(), libc::EBADF);
    }

    #[test]
    fn two_processes_hardly_give_the_same_handle() {
        let first = Tokens::new().keep(Token::Identity(Arc::default())).unwrap();
        let mut second = Tokens::new();
        second.keep(Token::Identity(Arc::default())).unwrap();
        assert_eq!(second.find(first).unwrap_err().errno(), libc::EBADF);
    }

    #[test]
    fn q_9_more_tokens_than_there_are_places_for_are_refused() {
        let mut tokens = Tokens::new();
        let token = Token::Identity(Arc::default());
        for _ in 0..SLOTS {
            tokens.keep(token.clone()).unwrap();
        }
        assert_eq!(tokens.keep(token).unwrap_err().errno(), libc::ENOMEM);
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let handle = an_identity();
        let failed = change(handle, |token| {
            *token = Token::Protection(Arc::default());
            Err(TOO_MANY)
        });
        assert_eq!(failed.unwrap_err().errno(), libc::ENOMEM);
        assert!(identity(handle).is_ok());
        free(handle, Kind::Identity).unwrap();
    }

    /// What a program may do with handles.
    #[derive(Clone, Debug)]
    enum Operation {
        Make(Kind),
        /// One of those that there were, alive or not.
        Free(prop::sample::Index),
        Fork,
        /// Anything.
        Find(usize),
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let operation = prop_oneof![
            4 => prop::bool::ANY.prop_map(|of| Operation::Make(if of { Kind::Identity } else { Kind::Protection })),
            3 => any::<prop::sample::Index>().prop_map(Operation::Free),
            1 => Just(Operation::Fork),
            2 => any::<usize>().prop_map(Operation::Find),
        ];
        prop::collection::vec(operation, 0..200)
    }

    /// Q-8, C-2: whatever is done in whatever order, a handle stands for the token that it was given for, or for none.
    #[test]
    fn q_8_c_2_handles_are_what_a_map_says_they_are() {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
        let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
        let check = |operations| {
            let (mut tokens, mut alive, mut given) = (Tokens::new(), HashMap::new(), Vec::new());
            for operation in operations {
                match operation {
                    Operation::Make(kind) => {
                        let token = match kind {
                            Kind::Identity => Token::Identity(Arc::default()),
                            Kind::Protection => Token::Protection(Arc::default()),
                        };
                        let handle = tokens.keep(token).unwrap();
                        prop_assert!(alive.insert(handle.0, kind).is_none(), "given twice");
                        given.push(handle);
                    }
                    Operation::Free(which) if !given.is_empty() => {
                        let handle = *which.get(&given);
                        prop_assert_eq!(tokens.take(handle).is_ok(), alive.remove(&handle.0).is_some());
                    }
                    Operation::Free(_) => {}
                    Operation::Fork => {
                        tokens.forget_protections();
                        alive.retain(|_, kind| *kind == Kind::Identity);
                    }
                    Operation::Find(any) => {
                        prop_assert_eq!(tokens.find(Handle(any)).is_ok(), alive.contains_key(&any));
                    }
                }
                for handle in &given {
                    let kind = tokens.find(*handle).ok().map(|(_, kind)| kind);
                    prop_assert_eq!(kind, alive.get(&handle.0).copied());
                }
            }
            Ok(())
        };
        TestRunner::new_with_rng(config, rng).run(&operations(), check).unwrap();
    }
}
