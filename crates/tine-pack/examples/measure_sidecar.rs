//! `measure_sidecar DISK OUT [COPY]`: makes the sidecar of a disk, and a disk of that; says how long each took and the most
//! memory either needed.

use std::{env, error::Error, fs::File, io::Seek, time::Instant};
use tine_model::Silent;
use tine_pack::sidecar::{read_sidecar, write_sidecar};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [disk, out, copy @ ..] = &arguments[..] else {
        return Err("usage: measure_sidecar DISK OUT [COPY]".into());
    };
    let mut stored = File::options().read(true).write(true).create(true).truncate(true).open(out)?;
    let begin = Instant::now();
    let written = write_sidecar(&File::open(disk)?, &stored, &Silent)?;
    println!(
        "written in {:.2} s: {} bytes of {}",
        begin.elapsed().as_secs_f64(),
        written.stored,
        written.bytes
    );
    memory()?;
    for copy in copy {
        stored.rewind()?;
        let copy = File::create(copy)?;
        let begin = Instant::now();
        read_sidecar(&mut stored, written.sha256, written.bytes, &copy, &Silent)?;
        copy.sync_all()?;
        println!("read in {:.2} s", begin.elapsed().as_secs_f64());
        memory()?;
    }
    Ok(())
}

fn memory() -> Result<(), Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}
