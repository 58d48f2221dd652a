//! Reads XML, and HTML that is written like XML, strictly: what is not well formed fails the test.

use std::collections::HashMap;

/// An element: its name, its attributes, and the text directly inside it.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub attributes: HashMap<String, String>,
    pub text: String,
}

/// The elements of a document, in the order in which they begin.
#[track_caller]
pub fn elements(document: &str) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut rest = document.strip_prefix("<!DOCTYPE html>\n").unwrap_or(document);
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        match open.last() {
            Some(&parent) => elements[parent].text += &decoded(text),
            None => assert_eq!(text.trim(), "", "text outside the root"),
        }
        let end = end_of_tag(tag);
        let inside = &tag[1..end];
        rest = &tag[end + 1..];
        if let Some(name) = inside.strip_prefix('/') {
            let closed = open.pop().unwrap_or_else(|| panic!("nothing is open at </{name}>"));
            assert_eq!(elements[closed].name, name, "closed by another tag");
            continue;
        }
        let (inside, is_empty) = match inside.strip_suffix('/') {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        assert!(!open.is_empty() || elements.is_empty(), "a second root: {inside}");
        let (name, attributes) = inside.split_once(' ').unwrap_or((inside, ""));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "the tag {name}");
        let attributes = parse_attributes(attributes);
        elements.push(Element { name: name.into(), attributes, text: String::new() });
        if !is_empty {
            open.push(elements.len() - 1);
        }
    }
    assert!(open.is_empty(), "{} elements are not closed", open.len());
    assert_eq!(rest.trim(), "", "text after the root");
    elements
}

/// Where a tag ends: at the first `>` that is in no quotes.
#[track_caller]
fn end_of_tag(tag: &str) -> usize {
    let mut quoted = false;
    let end = tag.bytes().enumerate().skip(1).find(|&(_, byte)| {
        assert!(byte != b'<', "< inside the tag {}", &tag[..tag.len().min(80)]);
        quoted ^= byte == b'"';
        byte == b'>' && !quoted
    });
    end.unwrap_or_else(|| panic!("a tag without an end: {}", &tag[..tag.len().min(80)])).0
}

#[track_caller]
fn parse_attributes(mut text: &str) -> HashMap<String, String> {
    let mut attributes = HashMap::new();
    while !text.trim().is_empty() {
        let (name, rest) = text.trim_start().split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "attribute {name}");
        let (value, rest) = rest.split_once('"').unwrap();
        assert!(rest.is_empty() || rest.starts_with(' '), "{rest}");
        assert!(attributes.insert(name.into(), decoded(value)).is_none(), "{name} twice");
        text = rest;
    }
    attributes
}

/// A text with its entities replaced; XML knows no others by name than these.
#[track_caller]
fn decoded(text: &str) -> String {
    let allowed =
        |c: char| matches!(c, '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(text.chars().all(allowed), "characters that XML has no place for: {text:?}");
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, after) = after.split_once(';').unwrap_or_else(|| panic!("a bare & in {text}"));
        decoded += before;
        decoded.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" | "#39" => '\'',
            other => panic!("&{other}; in {text}"),
        });
        rest = after;
    }
    decoded + rest
}
