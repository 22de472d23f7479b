//! `download URL FOLDER NAME [STREAMS]`: one download, its figures printed as `fetched reused seconds streams`.

use std::{path::Path, process::ExitCode};
use tine_model::Silent;
use tine_remote::{Download, DownloadRequest, Expected, Location, Remote, RemoteConfig, RemoteError};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, RemoteError> {
    let [url, dir, name, more @ ..] = arguments else {
        return Err(RemoteError::Internal("usage: download URL FOLDER NAME [STREAMS]".to_owned()));
    };
    let streams = more.first().and_then(|text| text.parse().ok()).unwrap_or(4);
    let config = RemoteConfig {
        streams,
        env: std::env::vars().collect(),
        sync_every: 1 << 20,
        ..RemoteConfig::default()
    };
    let (remote, location) = (Remote::new(config)?, Location::parse(url)?);
    let expected = Expected::default();
    let (location, dir) = (&location, Path::new(dir));
    let request =
        DownloadRequest { location, dir, name, expected, max_bytes: u64::MAX, parts: None, durable: true };
    let stats = Download::start(&remote, request, &Silent)?.finish(&Silent)?.stats;
    Ok(format!("{} {} {:.3} {}", stats.fetched, stats.reused, stats.seconds, stats.streams))
}
