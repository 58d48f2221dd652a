//! Names of classes in figures and pages: they are anyone's text, of any length and any script.

use crate::text::visible;

/// A text that can stand in HTML and XML, as content and in quotes. What controls a terminal or the direction of writing
/// becomes an escape, as in messages; joiners stay, because Persian, Hindi and emoji are written with them.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{200c}' | '\u{200d}' => escaped.push(character),
            // XML has no place for these two.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push_str(&visible(character.encode_utf8(&mut [0; 4]))),
        }
    }
    escaped
}

/// The width of a text in a sans-serif font, in its size. The font is the reader's, so that this is a guess, and a generous
/// one: Latin capitals have 0.55 to 0.85, Chinese characters 1.
pub fn width(text: &str) -> f64 {
    text.chars().map(width_of).sum()
}

fn width_of(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '|' | '\'' => 0.36,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 1.0,
        'A'..='Z' => 0.76,
        _ if character < '\u{1100}' => 0.64,
        // Hangul, Chinese, Japanese, emoji.
        _ => 1.1,
    }
}

/// The beginning of a text, and `…`, where it is wider than this.
pub fn cut(text: &str, widest: f64) -> String {
    if width(text) <= widest {
        return text.to_owned();
    }
    let mut left = widest - width_of('…');
    let fits = |character: &char| {
        left -= width_of(*character);
        left >= 0.0
    };
    let begin: String = text.chars().take_while(fits).collect();
    format!("{}…", begin.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_is_markup() {
        for (name, expected) in [
            ("<script>&\"'", "&lt;script&gt;&amp;&quot;&#39;"),
            ("a\nb\u{202e}c\u{0}", "a\\nb\\u{202e}c\\u{0}"),
            ("نعم می\u{200c}شود", "نعم می\u{200c}شود"),
            ("猫\u{ffff}", "猫\u{fffd}"),
        ] {
            assert_eq!(escape(name), expected);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("Ankle boot", 10.0), "Ankle boot");
        for text in [
            "a rather long name of a class",
            &"猫".repeat(40),
            &"W".repeat(40),
            "iiiiiiiiiiiiiiiiiiiiiiiiiiiiii",
        ] {
            let short = cut(text, 10.0);
            assert!(short.ends_with('…') && width(&short) <= 10.0, "{short}");
            assert!(width(&short) > 8.0, "{short}");
        }
    }
}
