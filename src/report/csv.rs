//! Comma-separated values (RFC 4180).

/// A text as a field: in quotes where it has a comma, a quote, a line break, or white space at an end, which some readers
/// drop.
pub fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.trim() != text {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        for (name, expected) in [
            ("T-shirt/top", "T-shirt/top"),
            ("<&'>", "<&'>"),
            ("a,b", "\"a,b\""),
            ("the \"best\"", "\"the \"\"best\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            (" x", "\" x\""),
            ("猫", "猫"),
            ("", ""),
        ] {
            assert_eq!(field(name), expected);
        }
    }
}
