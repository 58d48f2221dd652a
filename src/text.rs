//! Texts as parts of a line that a user reads: no part of it can break the line, or hide what it says.

use std::cmp::Ordering;
use std::path::Path;

/// A path on one line. Bytes that are no UTF-8 become U+FFFD, characters that a terminal would act on or not show
/// become escapes, as in `runs/a\nb`. An empty path is shown as two quotes.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return "''".into();
    }
    visible(&text)
}

/// The text with escapes in place of characters that break a line, change the terminal, or are not seen.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if is_seen(character) {
            visible.push(character);
        } else {
            visible.extend(character.escape_default());
        }
    }
    visible
}

/// The same, cut if it is very long: for the content of files.
pub fn excerpt(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut cut = visible(&text.chars().take(LONGEST).collect::<String>());
    if text.chars().nth(LONGEST).is_some() {
        cut.push('…');
    }
    cut
}

/// What was expected and what was found, as they are printed in one line: where they would look alike, quoted, with
/// escapes for all that is not plain ASCII.
pub fn told_apart(expected: &str, found: &str) -> [String; 2] {
    if !look_alike(expected, found) {
        return [excerpt(expected), excerpt(found)];
    }
    [expected, found].map(|text| excerpt(&format!("\"{}\"", text.escape_default())))
}

/// The text on one line, whatever white space it has.
pub fn one_line(text: impl ToString) -> String {
    visible(&text.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A number of bytes: `2.5 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut amount = count as f64 / 1e3;
    while amount >= 1e3 && unit + 1 < UNITS.len() {
        amount /= 1e3;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// Compares names with the numbers in them by value: `dense_2` comes before `dense_10`.
pub fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let [digits, digits_other] = [one, other].map(|text| {
            text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len()
        });
        if digits > 0 && digits_other > 0 {
            let numbers = [&one[..digits], &other[..digits_other]];
            let [value, value_other] = numbers.map(|number| number.trim_start_matches('0'));
            let by_value = value.len().cmp(&value_other.len()).then_with(|| value.cmp(value_other));
            let order = by_value.then_with(|| digits.cmp(&digits_other));
            if order.is_ne() {
                return order;
            }
            (one, other) = (&one[digits..], &other[digits_other..]);
            continue;
        }
        let mut characters = (one.chars(), other.chars());
        match (characters.0.next(), characters.1.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) if left != right => return left.cmp(&right),
            _ => (one, other) = (characters.0.as_str(), characters.1.as_str()),
        }
    }
}

/// Whether a character is drawn and stays in its place. Besides control characters these are not: U+2028 and U+2029,
/// which some programs take for line breaks, marks without width (a byte order mark among them), and those that turn
/// the direction of writing round.
fn is_seen(character: char) -> bool {
    !(character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        ))
}

/// Whether two texts that differ would look the same: they differ in white space and unseen characters, or where one
/// of them has characters beyond ASCII, such as a Cyrillic `а`, in place of another's.
fn look_alike(one: &str, other: &str) -> bool {
    let inked = |text: &str| -> Vec<char> {
        text.chars().filter(|&character| is_seen(character) && !character.is_whitespace()).collect()
    };
    let (inked_one, inked_other) = (inked(one), inked(other));
    let same = |(one, other): (&char, &char)| one == other || one.is_ascii() != other.is_ascii();
    one != other
        && !inked_one.is_empty()
        && inked_one.len() == inked_other.len()
        && inked_one.iter().zip(&inked_other).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_on_one_line() {
        for (path, expected) in [
            ("runs/mps-bond1-1", "runs/mps-bond1-1"),
            ("été/测试", "été/测试"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("left\u{202e}right", r"left\u{202e}right"),
            ("", "''"),
        ] {
            assert_eq!(shown(Path::new(path)), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_shown() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        assert_eq!(shown(path), "caf\u{fffd}");
    }

    #[test]
    fn texts_that_look_alike_are_told_apart() {
        let header = "epoch,loss";
        for (found, expected) in [
            ("\u{feff}epoch,loss", r#""\u{feff}epoch,loss""#),
            ("epoch,loss ", r#""epoch,loss ""#),
            ("epoch,\u{a0}loss", r#""epoch,\u{a0}loss""#),
            ("epoch\tloss", r"epoch\tloss"),
            ("ep\u{43e}ch,loss", r#""ep\u{43e}ch,loss""#),
            ("step,loss", "step,loss"),
        ] {
            let [_, told] = told_apart(header, found);
            assert_eq!(told, expected);
        }
        assert_eq!(told_apart("3", "4"), ["3", "4"]);
    }

    #[test]
    fn sizes_are_short_to_read() {
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(2_949_120_000), "2.9 GB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }
}
