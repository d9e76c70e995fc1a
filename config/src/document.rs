//! The file as tables and values whose places are known, and the problems found in it.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::Position;
use crate::position::Lines;
use crate::problem::{Problem, Report, Severity, quote};
use crate::reference::{Key, Table};

/// A table of the file, and what the reference says of it.
pub struct Scope<'d> {
    reference: &'static Table,
    path: String,
    entries: &'d DeTable<'d>,
    at: usize,
}

impl<'d> Scope<'d> {
    /// The table, whose unknown keys become problems. `path` is the keys above it, ended by a dot.
    pub fn new(
        reference: &'static Table,
        path: String,
        (entries, at): (&'d DeTable<'d>, usize),
        problems: &mut Problems<'_>,
    ) -> Self {
        for key in entries.keys() {
            let known = |name: &str| reference.keys.iter().any(|known| known.name == name);
            if !known(key.get_ref()) {
                problems.unknown_key(&path, key, reference);
            }
        }
        Self { reference, path, entries, at }
    }

    /// The value of a key, if there is one.
    pub fn entry(&self, key: &'static Key) -> Option<Entry<'d>> {
        debug_assert!(self.reference.keys.iter().any(|known| std::ptr::eq(*known, key)), "{}", key.name);
        let value = self.entries.get(key.name)?;
        Some(Entry { key, path: format!("{}{}", self.path, key.name), value })
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &'static Key, problems: &mut Problems<'_>) -> Option<Entry<'d>> {
        let entry = self.entry(key);
        if entry.is_none() {
            let message = format!("`{}` is missing", key.name);
            let hint = format!("say {} = {}", key.name, key.example);
            problems.error(self.at, self.path.trim_end_matches('.'), message, hint);
        }
        entry
    }

    /// The value of a key as `take` understands it; what it does not understand is a problem already.
    pub fn read<T>(
        &self,
        key: &'static Key,
        problems: &mut Problems<'_>,
        take: impl FnOnce(&Entry<'d>, &mut Problems<'_>) -> Option<T>,
    ) -> Option<T> {
        self.entry(key).and_then(|entry| take(&entry, problems))
    }

    /// Like [`Scope::read`], with a default where there is no value. `None` is a problem.
    pub fn read_or<T>(
        &self,
        key: &'static Key,
        default: T,
        problems: &mut Problems<'_>,
        take: impl FnOnce(&Entry<'d>, &mut Problems<'_>) -> Option<T>,
    ) -> Option<T> {
        self.entry(key).map_or(Some(default), |entry| take(&entry, problems))
    }

    /// Where the table is.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Its name among the keys.
    pub fn name(&self) -> &str {
        self.path.trim_end_matches('.')
    }
}

/// A value, and the key it belongs to.
#[derive(Clone)]
pub struct Entry<'d> {
    key: &'static Key,
    path: String,
    value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Entry<'d> {
    /// A string.
    pub fn text(&self, problems: &mut Problems<'_>) -> Option<&'d str> {
        let text = self.value.get_ref().as_str();
        self.or_wrong_type(text, problems)
    }

    /// A string without NUL octets and not empty, which a path may be.
    pub fn nonempty(&self, problems: &mut Problems<'_>) -> Option<&'d str> {
        let text = self.text(problems)?;
        if text.is_empty() || text.contains('\0') {
            self.error(
                problems,
                "is empty or holds a NUL",
                format!("write for example {}", self.key.example),
            );
            return None;
        }
        Some(text)
    }

    /// True or false.
    pub fn flag(&self, problems: &mut Problems<'_>) -> Option<bool> {
        let flag = self.value.get_ref().as_bool();
        self.or_wrong_type(flag, problems)
    }

    /// A whole number within `bounds`.
    pub fn number(&self, bounds: RangeInclusive<u64>, problems: &mut Problems<'_>) -> Option<u64> {
        let integer = self.value.get_ref().as_integer();
        let integer = self.or_wrong_type(integer, problems)?;
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            let hint = format!("choose {} to {}", bounds.start(), bounds.end());
            self.error(problems, "the number is too small or too large", hint);
        }
        number
    }

    /// A string, if it is one.
    pub fn as_text(&self) -> Option<&'d str> {
        self.value.get_ref().as_str()
    }

    /// Whether it is a whole number.
    pub fn is_number(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    /// The table that it is.
    pub fn table(&self, reference: &'static Table, problems: &mut Problems<'_>) -> Option<Scope<'d>> {
        let table = self.value.get_ref().as_table();
        let table = self.or_wrong_type(table, problems)?;
        Some(Scope::new(reference, format!("{}.", self.path), (table, self.at()), problems))
    }

    /// The table that it is, if it is one.
    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// The values of the list that it is, or itself.
    pub fn items(&self) -> Vec<Entry<'d>> {
        match self.value.get_ref() {
            DeValue::Array(values) => values.iter().map(|value| Entry { value, ..self.clone() }).collect(),
            _ => vec![self.clone()],
        }
    }

    /// What the table that it is has by its keys, whatever they are; `None` where it is no table.
    pub fn pairs(&self) -> Option<Vec<(&'d str, Self)>> {
        let table = self.value.get_ref().as_table()?;
        Some(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().as_ref(), Entry { value, ..self.clone() }))
                .collect(),
        )
    }

    /// Whether it is a list without values.
    pub fn is_empty_list(&self) -> bool {
        self.value.get_ref().as_array().is_some_and(|values| values.is_empty())
    }

    /// Where it is.
    pub fn at(&self) -> usize {
        self.value.span().start
    }

    /// Its key, with the keys above it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Says what is wrong with it.
    pub fn error(&self, problems: &mut Problems<'_>, message: impl Into<String>, hint: impl Into<String>) {
        problems.error(self.at(), &self.path, message, hint);
    }

    /// Says what someone should know about it.
    pub fn warning(&self, problems: &mut Problems<'_>, message: impl Into<String>, hint: impl Into<String>) {
        problems.warning(self.at(), &self.path, message, hint);
    }

    /// Says that it is not understood, and gives an example.
    pub fn not(&self, problems: &mut Problems<'_>, what: &str) {
        let quoted = self.as_text().map_or_else(|| "this".to_owned(), quote);
        self.error(
            problems,
            format!("{quoted} is {what}"),
            format!("write for example {}", self.key.example),
        );
    }

    /// Says that its value has the wrong type.
    pub fn wrong_type(&self, problems: &mut Problems<'_>) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("takes {}, not {found}", self.key.shape);
        let hint = if self.key.example.is_empty() {
            String::new()
        } else {
            format!("write for example {} = {}", self.key.name, self.key.example)
        };
        self.error(problems, message, hint);
    }

    fn or_wrong_type<T>(&self, value: Option<T>, problems: &mut Problems<'_>) -> Option<T> {
        if value.is_none() {
            self.wrong_type(problems);
        }
        value
    }
}

/// The problems found so far, and the text that they are found in.
pub struct Problems<'t> {
    lines: Lines<'t>,
    found: Vec<Problem>,
    errors: usize,
    unknown: usize,
}

impl<'t> Problems<'t> {
    /// None yet.
    pub fn new(text: &'t str) -> Self {
        Self { lines: Lines::new(text), found: Vec::new(), errors: 0, unknown: 0 }
    }

    /// Notes what keeps the configuration from being used.
    pub fn error(&mut self, at: usize, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.note(Severity::Error, at, key, (message.into(), hint.into()));
    }

    /// Notes what someone should know.
    pub fn warning(&mut self, at: usize, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.note(Severity::Warning, at, key, (message.into(), hint.into()));
    }

    /// Line and column.
    pub fn position(&self, at: usize) -> Position {
        self.lines.position(at)
    }

    /// How many errors there are.
    pub const fn errors(&self) -> usize {
        self.errors
    }

    /// All of them, in the order of their places.
    pub fn into_report(self) -> Report {
        let mut problems = self.found;
        problems.sort_by_key(|problem| problem.at);
        Report { problems }
    }

    fn note(&mut self, severity: Severity, at: usize, key: &str, (message, hint): (String, String)) {
        let at = self.lines.position(at);
        self.errors += usize::from(severity == Severity::Error);
        self.found.push(Problem { at, severity, key: key.to_owned(), message, hint });
    }

    fn unknown_key(&mut self, path: &str, key: &Spanned<std::borrow::Cow<'_, str>>, table: &Table) {
        let (at, name) = (key.span().start, key.get_ref());
        self.unknown += 1;
        let names = table.keys.iter().map(|key| key.name);
        let hint = match SECRET_KEYS.contains(&name.as_ref()) {
            true => "keys stand in files of their own: write `key_file = \"in.key\"`".to_owned(),
            false if self.unknown > MOST_SUGGESTIONS => String::new(),
            false => match nearest(name, names.clone()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("the keys here are {}", names.collect::<Vec<_>>().join(", ")),
            },
        };
        self.error(at, path.trim_end_matches('.'), format!("there is no key {}", quote(name)), hint);
    }
}

/// The name most like `name`, if one is.
pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let close = names.filter(|known| known.len().abs_diff(name.len()) <= MOST_TYPOS);
    let distances = close.map(|known| (strsim::osa_distance(name, known), known));
    let (distance, known) = distances.min()?;
    (distance <= MOST_TYPOS && distance < known.len().min(name.len())).then_some(known)
}

const MOST_TYPOS: usize = 2;
/// Beyond so many unknown keys it is no slip any more.
const MOST_SUGGESTIONS: usize = 1000;
/// What people call a key.
const SECRET_KEYS: [&str; 4] = ["key", "secret", "psk", "password"];
