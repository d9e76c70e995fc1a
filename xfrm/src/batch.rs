//! Lines of a batch, as `ip -batch` reads them.

use crate::error::GrammarError;
use crate::words::abbreviates;

/// The commands of a batch with the numbers of their lines, each as its words. Comments, empty lines and a leading `xfrm`
/// are left out, and a line that ends with a backslash goes on in the next.
///
/// # Errors
/// What is wrong with the line of that number.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, Result<Vec<String>, GrammarError>)> {
    let mut numbered = text.lines().enumerate();
    std::iter::from_fn(move || {
        loop {
            let (place, first) = numbered.next()?;
            let mut line = first.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push_str(numbered.next().map_or("", |(_, next)| next));
            }
            match words(&line) {
                Ok(words) if words.is_empty() => {}
                other => return Some((place + 1, other.and_then(behind_object))),
            }
        }
    })
}

fn behind_object(mut words: Vec<String>) -> Result<Vec<String>, GrammarError> {
    let is = |keyword: &str| words.first().is_some_and(|word| abbreviates(word, keyword));
    let behind = is("xfrm");
    match behind {
        true => {
            words.remove(0);
            Ok(words)
        }
        false if ["state", "sa", "policy"].into_iter().any(is) => Ok(words),
        false => Err(GrammarError::Refused {
            what: "a line that is not of xfrm",
            why: "addresses, links and routes are the kernel's; give those lines to `ip -batch`",
        }),
    }
}

/// Words of a line; quotes hold one together, and `#` begins a comment.
fn words(line: &str) -> Result<Vec<String>, GrammarError> {
    let (mut words, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) =
        (Vec::new(), None, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '#') => break,
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, _) if letter.is_ascii_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(GrammarError::Conflict("a quote is opened and not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_ip_batch() {
        let text = "# nothing\n\nxfrm state flush # all\nstate \\\n add 'a b' \"c(d)\"\n";
        let read: Vec<_> = lines(text).map(|(place, words)| (place, words.unwrap())).collect();
        assert_eq!(
            read,
            [
                (3, vec!["state".to_owned(), "flush".into()]),
                (4, vec!["state".to_owned(), "add".into(), "a b".into(), "c(d)".into()]),
            ]
        );
    }

    #[test]
    fn lines_of_other_objects_are_refused_by_number() {
        let read: Vec<_> = lines("state flush\naddr add 10.0.0.1/24 dev tun0\npolicy 'x\n").collect();
        assert!(matches!(read.as_slice(), [(1, Ok(_)), (2, Err(GrammarError::Refused { .. })), (3, Err(_))]));
    }
}
