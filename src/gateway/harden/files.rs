//! Files: by Landlock, nothing is in reach but the folders of the plan. What is open already stays open.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags,
};

use super::{HardenError, Plan};

/// What may be reached; nothing is enforced yet.
pub(super) struct Bounds(RulesetCreated);

/// Why files are not confined.
#[derive(Debug)]
pub(super) enum Unconfined {
    /// The kernel has no Landlock, or does not use it.
    Absent,
    /// The kernel refused.
    Refused(RulesetError),
}

impl Bounds {
    /// Opens every folder of the plan.
    ///
    /// # Errors
    /// A folder cannot be opened. Inside: Landlock cannot be used.
    pub(super) fn new(plan: &Plan) -> Result<Result<Self, Unconfined>, HardenError> {
        let open = |paths: &[PathBuf]| paths.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>();
        let (read, write) = (open(&plan.read)?, open(&plan.write)?);
        Ok(Self::build(read, write).map_err(Unconfined::Refused))
    }

    fn build(read: Vec<Opened>, write: Vec<Opened>) -> Result<Self, RulesetError> {
        // Rights that an older kernel does not know are left out: the rest is better than nothing.
        let mut rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5))?.create()?;
        for (opened, access) in
            read.into_iter().map(|it| (it, READ)).chain(write.into_iter().map(|it| (it, READ | WRITE)))
        {
            let access = if opened.is_folder { access } else { access & AccessFs::from_file(ABI::V5) };
            rules = rules.add_rule(PathBeneath::new(opened.descriptor, access))?;
        }
        Ok(Self(rules))
    }

    /// Enforces them, on this thread and those that it starts.
    pub(super) fn enforce(self) -> Result<(), Unconfined> {
        match self.0.restrict_self().map_err(Unconfined::Refused)?.ruleset {
            RulesetStatus::NotEnforced => Err(Unconfined::Absent),
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
        }
    }
}

struct Opened {
    descriptor: PathFd,
    is_folder: bool,
}

fn open(path: &Path) -> Result<Opened, HardenError> {
    let failed = |source| HardenError::Folder { path: path.into(), source };
    let is_folder = path.metadata().map_err(failed)?.is_dir();
    let descriptor = PathFd::new(path).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(Opened { descriptor, is_folder })
}

impl fmt::Display for Unconfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => {
                f.write_str("this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK, lsm=)")
            }
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// Files, folders and sockets are made, replaced and removed; nothing is run, and no device is made.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | MakeReg | MakeDir | MakeSock | RemoveFile | RemoveDir
});
