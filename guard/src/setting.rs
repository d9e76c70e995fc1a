//! Kernel settings that are changed for the gateway: each change is told, so that an operator can see and undo it.

use std::fmt;

use latchway_netns::{Namespace, sysctl};

use crate::Result;

/// A setting of a namespace that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Its name below `/proc/sys`.
    pub key: String,
    /// What it was.
    pub before: String,
    /// What it is now.
    pub after: String,
}

impl SettingChange {
    /// Sets it back to what it was.
    pub fn undo(&self, namespace: &Namespace) -> Result<()> {
        Ok(sysctl::write(namespace, &self.key, &self.before)?)
    }
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, was {}", self.key, self.after, self.before)
    }
}

/// Sets a setting, and keeps note of it if it was another.
pub(crate) fn set(
    namespace: &Namespace,
    key: String,
    after: &str,
    changes: &mut Vec<SettingChange>,
) -> Result<()> {
    let before = sysctl::read(namespace, &key)?;
    if before != after {
        sysctl::write(namespace, &key, after)?;
        changes.push(SettingChange { key, before, after: after.to_owned() });
    }
    Ok(())
}

/// Whether a setting is something other than 0.
pub(crate) fn is_on(namespace: &Namespace, key: &str) -> Result<bool> {
    Ok(sysctl::read(namespace, key)? != "0")
}
