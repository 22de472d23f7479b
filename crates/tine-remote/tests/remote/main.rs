//! Transfers against servers that misbehave (written here) and against real ones (nginx, a Docker registry, an S3 server).
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod bad_downloads;
mod bad_server;
mod bad_uploads;
mod breaks;
mod google;
mod nginx;
mod objects;
mod oci;
mod parts;
mod s3;
mod setup;
