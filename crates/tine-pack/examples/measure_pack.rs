//! `measure_pack v1|v2|v3 PACK MEMORY…`: packs machines with these memories, root first, and unpacks them again beside
//! the pack; prints seconds, those of the processors, bytes and the most memory used. What is unpacked is made durable within its time.

use std::{
    env,
    error::Error,
    fs::{self, File},
    path::PathBuf,
    time::Instant,
};
use tine_model::{Sha256Digest, Silent, Timestamp};
use tine_pack::{
    Begin, Layout, Limits, Manifest, Receiver, Role, Source, SourceFile, SourceLink, read, write,
};

struct Folder(PathBuf, Vec<(PathBuf, File)>);

impl Receiver for Folder {
    fn begin(&mut self, _: &Manifest, _: &[u8], _: Option<&str>) -> tine_model::Result<Begin> {
        Ok(Begin::default())
    }
    fn file(&mut self, link: usize, role: Role, _: u64) -> tine_model::Result<File> {
        let path = self.0.join(format!("unpacked-{link}-{}", role.file_name()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file =
            file.map_err(|e| tine_model::Error::new(tine_model::ErrorCode::Internal, e.to_string()))?;
        let kept = file.try_clone();
        let kept =
            kept.map_err(|e| tine_model::Error::new(tine_model::ErrorCode::Internal, e.to_string()))?;
        self.1.push((path, kept));
        Ok(file)
    }
}

/// Seconds of all cores that this process has used.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("").to_owned()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [layout, pack, memories @ ..] = arguments.as_slice() else { return Err("see the source".into()) };
    let layout = match layout.as_str() {
        "v1" => Layout::V1,
        "v2" => Layout::V2,
        _ => Layout::V3,
    };
    let memories: Vec<File> = memories.iter().map(File::open).collect::<Result<_, _>>()?;
    let vmstate = File::open("/dev/null")?;
    let empty = Sha256Digest(sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new()).into());
    let mut links = Vec::new();
    for (n, file) in memories.iter().enumerate() {
        let tag = |n: usize| format!("m{n}").parse();
        links.push(SourceLink {
            tag: tag(n)?,
            parent: n.checked_sub(1).map(tag).transpose()?,
            facts: None,
            memory: SourceFile { file, digest: tine_digest::of_data(file)?, sha256: None },
            vmstate: SourceFile { file: &vmstate, digest: empty, sha256: None },
            disk: None,
            snapshot_json: None,
        });
    }
    let source = Source {
        layout,
        tag: format!("m{}", memories.len() - 1).parse()?,
        description: None,
        base_image: None,
        created_at: Timestamp::from_second(0),
        writer: "measure".into(),
        links,
        rootfs: None,
    };
    let (begun, used) = (Instant::now(), cpu());
    let out = File::create(pack)?;
    let written = write(&source, None, &out, &Silent)?;
    let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu() - used);
    println!("pack   {seconds:.3} s, processors {used:.3} s, {} bytes, {}", written.file_bytes, peak());
    out.sync_all()?;
    fs::write("/proc/self/clear_refs", "5")?;
    let parent = PathBuf::from(pack).parent().map(PathBuf::from).unwrap_or_default();
    let mut folder = Folder(parent, Vec::new());
    let (begun, used) = (Instant::now(), cpu());
    read(&mut File::open(pack)?, &Limits::default(), &mut folder, &Silent)?;
    let read_in = begun.elapsed().as_secs_f64();
    folder.1.iter().try_for_each(|(_, file)| file.sync_data())?;
    let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu() - used);
    println!("unpack {read_in:.3} s, durable {seconds:.3} s, processors {used:.3} s, {}", peak());
    folder.1.iter().try_for_each(|(path, _)| fs::remove_file(path))?;
    Ok(())
}
