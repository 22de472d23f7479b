//! The machines of the fixed world: a vm box, images, kernels, and forks that go as their source's name says.

use super::world::{info, name, time};
use std::io::Write as _;
use tine_model::*;

/// A vm box, as `info` shows it.
pub fn machine(of: &BoxRef) -> BoxInfo {
    let mut info = info(of);
    info.summary.kind = BoxKind::Vm;
    info.settings.cpus = Some(2);
    info.settings.limits.memory_bytes = Some(ByteSize::gib(1));
    info.settings.limits.disk_bytes = Some(ByteSize::gib(20));
    BoxInfo { accel: Some(Accel::Tcg), last_end: Some("the guest's kernel panicked".into()), ..info }
}

/// An image.
pub fn image(tag: &ImageTag) -> ImageInfo {
    ImageInfo {
        tag: tag.clone(),
        id: "fedcba9876543210".repeat(2),
        size_bytes: ByteSize::mib(420),
        created_at: time(),
        description: "numpy\x1b[2J imported".into(),
        has_rootfs: true,
        source: "base python".into(),
        base: Some(name("python-v20260101120000")),
        parent: None,
        memory_bytes: ByteSize::mib(512),
        contract: Some(contract()),
        pack: None,
        memory_digest: Sha256Digest([0x01; 32]),
        vmstate_digest: Sha256Digest([0x02; 32]),
        disk_digest: Some(Sha256Digest([0x03; 32])),
    }
}

fn contract() -> Contract {
    Contract {
        engine: "qemu".into(),
        engine_version: "7.2.22".into(),
        accel: Accel::Tcg,
        machine: "pc-q35-7.2".into(),
        cpu_model: "qemu64".into(),
        cpu_features: vec!["+rdrand".into(), "-svm".into()],
        cpus: 1,
        memory_bytes: ByteSize::mib(512),
        kernel: name("6.1.0-2-cloud-amd64"),
        kernel_digest: Sha256Digest([0x04; 32]),
        devices: vec!["virtio-blk-pci".into(), "virtio-serial-pci".into()],
    }
}

/// A pack of an image with one ancestor, which needs a file beside it.
pub fn packed(request: &PackImage, files: &dyn NewFiles) -> Result<PackReport> {
    let layout = request.layout.unwrap_or(PackLayout::V3);
    let names = [format!("{}{}", request.tag, layout.file_ending()), "0123456789abcdef.rootfs.zst".into()];
    for name in &names {
        let failed = |e: std::io::Error| Error::new(ErrorCode::Internal, e.to_string());
        files.create(name)?.write_all(b"a pack").map_err(failed)?;
    }
    let file = |name: String, mib| PackedFile { name, bytes: ByteSize::mib(mib) };
    let [pack, sidecar] = names;
    Ok(PackReport {
        layout,
        images: vec![name("numpy-base"), request.tag.clone()],
        files: vec![file(pack, 100), file(sidecar, 40)],
        content_bytes: ByteSize::gib(1),
        stored_bytes: ByteSize::mib(420),
        signed_by: request.sign.clone().map(String::from),
    })
}

/// An image with an ancestor that was there before.
pub fn unpacked(request: &UnpackImage, pack: &mut dyn std::io::Read) -> Result<UnpackReport> {
    std::io::copy(pack, &mut std::io::sink()).map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    let tag = request.tag.clone().unwrap_or_else(|| name("python-numpy"));
    let one = |tag: ImageTag, reused| UnpackedImage { image: image(&tag), reused };
    let images = vec![one(name("numpy-base"), true), one(tag, false)];
    Ok(UnpackReport { layout: PackLayout::V3, images, signed_by: Some("release".into()) })
}

/// A guest kernel.
pub fn kernel(text: &str, default: bool) -> KernelInfo {
    KernelInfo {
        name: name(text),
        digest: Sha256Digest([0x04; 32]),
        size_bytes: ByteSize::mib(60),
        created_at: time(),
        source: "the distribution".into(),
        default,
    }
}

/// A recipe whose base is there when its image is.
pub fn recipe(text: &str, image: RecipeState) -> RecipeInfo {
    RecipeInfo {
        name: name(text),
        about: "something\x1b[2J waits".into(),
        parent: Some(name("box-base")),
        script_sha256: Sha256Digest([0xab; 32]),
        memory_bytes: ByteSize::mib(256),
        disk_bytes: ByteSize::gib(4),
        warm: vec!["server &".into()],
        ready: "ask server".into(),
        base: if image == RecipeState::Missing { image } else { RecipeState::Current },
        image,
    }
}

/// What `recipe build` answers: there is no recipe `nope`, and the image of `python-numpy` is there already.
pub fn built(request: &BuildRecipe) -> Result<BuiltRecipe> {
    if request.name.as_str() == "nope" {
        return Err(Error::new(ErrorCode::NotFound, "no recipe is named nope").hint("tine recipe list"));
    }
    let tag = request.tag.clone().unwrap_or_else(|| name(request.name.as_str()));
    let baked = request.force || request.name.as_str() != "python-numpy";
    let base = request.name.first_version();
    Ok(BuiltRecipe { name: request.name.clone(), base, base_created: baked, image: image(&tag), baked })
}

/// What takes space besides boxes.
pub fn stored() -> Vec<StoredUsage> {
    let one = |kind, name: &str, mib| StoredUsage {
        kind,
        name: name.into(),
        logical_bytes: ByteSize::mib(mib),
        exclusive_bytes: ByteSize::mib(mib / 2),
    };
    vec![
        one(StoredKind::Image, "python-numpy", 420),
        one(StoredKind::Kernel, "6.1.0-2-cloud-amd64", 60),
        one(StoredKind::Disk, "python-v20260101120000", 900),
    ]
}

/// Every child becomes ready 400 ms after the one before it. Of the image `partial` the last two fail; a fork of the image
/// `stopped` is broken off after two, of `hasty` before the first; of `full` it cannot begin.
pub fn forked(request: &ForkRequest, on_ready: &(dyn Fn(&ForkedBox) + Sync)) -> Result<ForkReport> {
    let source = request.source.to_string();
    let (good, cancelled) = match source.as_str() {
        "image full" => return Err(Error::new(ErrorCode::PoolFull, "the pool is full").hint("tine df")),
        "image partial" => (request.count.saturating_sub(2), 0),
        "image stopped" => (2, request.count - 3),
        "image hasty" => (0, request.count),
        _ => (request.count, 0),
    };
    let ready: Vec<ForkedBox> = (1..=good).map(|n| child(request, n)).collect();
    // from threads that are not the caller's, as a service may
    ready.iter().for_each(|child| std::thread::scope(|s| _ = s.spawn(|| on_ready(child)).join()));
    let failed = (good + 1..=request.count - cancelled).map(|n| failure(request, n, &source));
    Ok(ForkReport {
        failed: failed.collect(),
        cancelled,
        wall_us: 412_000 + 400_000 * u64::from(good),
        pause_us: matches!(request.source, ForkSource::Box(_)).then_some(4_200),
        private_bytes: (good > 0).then_some(ByteSize(2_202_010)),
        proportional_bytes: (good > 0).then_some(ByteSize::mib(31)),
        ready,
    })
}

fn child_name(request: &ForkRequest, number: u32) -> BoxRef {
    let prefix = request.prefix.clone().unwrap_or_else(|| match &request.source {
        ForkSource::Image(tag) => ForkPrefix::of_image(tag),
        ForkSource::Box(name) => ForkPrefix::of_box(&name.name),
    });
    BoxRef { project: request.project.clone(), name: prefix.child(number).unwrap() }
}

fn child(request: &ForkRequest, number: u32) -> ForkedBox {
    let us = 412_000 + 400_000 * u64::from(number - 1);
    let clocks = ForkClocks {
        process_started_us: 20_000,
        state_loaded_us: 150_000,
        resumed_us: 160_000,
        agent_acknowledged_us: 380_000,
        ready_us: 390_000,
    };
    ForkedBox { name: child_name(request, number), clocks, since_start_us: us }
}

fn failure(request: &ForkRequest, number: u32, source: &str) -> ForkFailure {
    let error = match source {
        "image stopped" => Error::new(ErrorCode::Cancelled, "stopped as asked"),
        _ => Error::new(ErrorCode::PoolFull, "the pool\x1b[2J is full").hint("tine df"),
    };
    ForkFailure { name: child_name(request, number), error: error.body().error }
}
