//! `tine init`

use crate::{failure::Outcome, output::Output};
use tine_model::{ByteSize, InitRequest, Service};

/// What `init` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine init --size 50GiB")]
pub struct Args {
    /// Size of the sparse file that is made when the folder does not lie on btrfs
    #[arg(long, default_value = "20GiB")]
    pub size: ByteSize,
}

/// Makes the pool, or mounts the one there is, and prints where it lies.
pub fn run(service: &dyn Service, args: &Args, out: &mut Output) -> Outcome {
    let pool = out.long_work(|progress| service.init(&InitRequest { size: args.size }, progress))?;
    out.name(&pool, &pool.root)?;
    out.say(match (pool.created, &pool.image_file) {
        (false, _) => "the pool was already there",
        (true, Some(_)) => "made a pool in a sparse file beside its folder",
        (true, None) => "made a pool in place, on btrfs",
    });
    Ok(0)
}
