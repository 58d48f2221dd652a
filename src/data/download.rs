//! Downloading a file over HTTP(S) into memory.

use std::fmt::Display;
use std::io::Read;
use std::time::Duration;

use super::Download;

/// Largest file that is downloaded; the training images are 26 MB.
const MAX_DOWNLOAD: u64 = 256 << 20;

/// Bytes between two reports of progress.
const CHUNK: u64 = 64 << 10;

/// An HTTP client that gives up on a server which does not answer.
pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_global(Some(Duration::from_secs(600)))
        .build()
        .into()
}

/// The whole file at `url`, or why there is none, on one line. `follow` is called before the first
/// byte and after every chunk.
pub(super) fn fetch(
    agent: &ureq::Agent,
    url: &str,
    follow: &mut dyn FnMut(Download<'_>),
) -> Result<Vec<u8>, String> {
    let one_line =
        |error: &dyn Display| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut response = agent.get(url).call().map_err(|error| one_line(&error))?;
    let length = response.body().content_length();
    let mut body = response.body_mut().with_config().limit(MAX_DOWNLOAD).reader();
    let mut bytes = Vec::new();
    loop {
        follow(Download { url, bytes: bytes.len() as u64, length });
        let chunk = body.by_ref().take(CHUNK).read_to_end(&mut bytes);
        if chunk.map_err(|error| one_line(&error))? == 0 {
            break;
        }
    }
    match length {
        Some(length) if length != bytes.len() as u64 => {
            Err(format!("received {} of {length} bytes", bytes.len()))
        }
        _ => Ok(bytes),
    }
}
