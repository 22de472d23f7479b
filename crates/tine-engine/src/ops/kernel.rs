//! `kernel install`, `import` and `list`: what vm boxes boot.

use crate::{LocalEngine, io_error, tool};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tine_machine::vm;
use tine_model::{Error, ErrorCode, ImportKernel, KernelInfo, KernelName, Reporter, Result};
use tine_store::Pool;

/// What depends on the newest kernel for virtual machines, on Debian and on Ubuntu.
const PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// How long the package tools may take to answer.
const QUERY: Duration = Duration::from_secs(60);
/// The largest kernel, in bytes.
const MAX_KERNEL: u64 = 256 << 20;

pub fn list(engine: &LocalEngine, reporter: &dyn Reporter) -> Result<Vec<KernelInfo>> {
    Ok(engine.pool()?.list_kernels(reporter)?)
}

/// Fetches the distribution's package and unpacks it; nothing is installed on the host.
pub fn install(engine: &LocalEngine, reporter: &dyn Reporter) -> Result<KernelInfo> {
    let pool = engine.pool()?;
    let image = newest_package()?;
    let scratch = Scratch::new(&pool)?;
    reporter.step(&format!("fetching {image}"), None);
    let mut download = Command::new("apt-get");
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download", &image]);
    download.args(package_of_modules(&image)).current_dir(scratch.path());
    tool::run(&mut download, &format!("fetch {image}"), reporter)?;
    reporter.step(&format!("unpacking {image}"), None);
    let root = scratch.path().join("root");
    for package in files_of(&scratch.path(), ".deb")? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(&root);
        tool::run(&mut unpack, "unpack the kernel", reporter)?;
    }
    let kernel = only(files_of(&root.join("boot"), "")?, "vmlinuz-", &image)?;
    let modules_of =
        |lib: &str| files_of(&root.join(lib), "").ok().and_then(|found| found.into_iter().next());
    let modules = modules_of("lib/modules").or_else(|| modules_of("usr/lib/modules"));
    let modules = modules.ok_or_else(|| odd_package(&image))?;
    index_modules(&root, &modules, reporter)?;
    publish(&pool, &kernel, &modules, None, &format!("package {image}"))
}

pub fn import(engine: &LocalEngine, request: &ImportKernel, reporter: &dyn Reporter) -> Result<KernelInfo> {
    let pool = engine.pool()?;
    reporter.step(&format!("importing {}", request.vmlinuz), None);
    let (vmlinuz, modules) = (Path::new(&request.vmlinuz), Path::new(&request.modules));
    publish(&pool, vmlinuz, modules, request.name.clone(), &request.vmlinuz)
}

fn publish(
    pool: &Pool,
    vmlinuz: &Path,
    modules: &Path,
    name: Option<KernelName>,
    source: &str,
) -> Result<KernelInfo> {
    check_kernel(vmlinuz)?;
    let name = match name {
        Some(name) => name,
        None => release_of(modules)?,
    };
    let needed = vm::collect_modules(modules)
        .map_err(|error| Error::from(error).hint("a directory as /lib/modules/$(uname -r), after depmod"))?;
    let stage = pool.stage_kernel()?;
    let target = stage.vmlinuz_path();
    fs::copy(vmlinuz, &target).map_err(|e| io_error("copy", vmlinuz, &e))?;
    // the machine's process, which is not root, opens it
    make_readable(&target)?;
    let dir = stage.modules_path();
    let order: String = needed.iter().map(|module| format!("{}\n", module.name)).collect();
    let write =
        |path: PathBuf, content: &[u8]| fs::write(&path, content).map_err(|e| io_error("write", &path, &e));
    for module in &needed {
        write(dir.join(&module.name), &module.content)?;
    }
    write(dir.join("order"), order.as_bytes())?;
    Ok(stage.publish(&name, source)?)
}

fn make_readable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .map_err(|e| io_error("set mode of", path, &e))
}

/// A bzImage says so at an offset that the boot protocol fixes (the kernel's `arch/x86/boot.rst`).
fn check_kernel(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let err = |e: std::io::Error| io_error("read", path, &e);
    let file = fs::File::open(path).map_err(err)?;
    let meta = file.metadata().map_err(err)?;
    let mut magic = [0; 4];
    let is_kernel = meta.is_file()
        && meta.len() <= MAX_KERNEL
        && file.read_exact_at(&mut magic, 0x202).is_ok()
        && &magic == b"HdrS";
    if is_kernel {
        return Ok(());
    }
    let message = format!("{} is no bzImage of an x86-64 kernel", path.display());
    Err(Error::new(ErrorCode::InvalidInput, message))
}

fn release_of(modules: &Path) -> Result<KernelName> {
    let canonical = modules.canonicalize().map_err(|e| io_error("open", modules, &e))?;
    let name = canonical.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.parse().map_err(|error: Error| error.hint("--name NAME"))
}

/// The package that the newest kernel for virtual machines lies in.
fn newest_package() -> Result<String> {
    for package in PACKAGES {
        let mut query = Command::new("apt-cache");
        query.args(["depends", package]);
        let Ok(said) = tool::capture(&mut query, "ask for the newest kernel", QUERY) else { continue };
        let depends = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        if let Some(image) = depends.map(str::trim).find(|name| name.starts_with("linux-image-")) {
            return Ok(image.to_owned());
        }
    }
    let message = "no package with a kernel for virtual machines is known to apt-get here";
    Err(Error::new(ErrorCode::Unsupported, message)
        .hint("apt-get update, or: tine kernel import --vmlinuz /boot/vmlinuz-$(uname -r) --modules /lib/modules/$(uname -r)"))
}

/// The package that the kernel's modules lie in where they have one of their own, as on Ubuntu.
fn package_of_modules(image: &str) -> Option<String> {
    let package = format!("linux-modules-{}", image.strip_prefix("linux-image-")?);
    let mut query = Command::new("apt-cache");
    query.args(["show", "--no-all-versions", &package]);
    tool::capture(&mut query, "ask for the kernel's modules", QUERY).ok().map(|_| package)
}

/// Packages leave this to the machine they are installed on.
fn index_modules(root: &Path, modules: &Path, reporter: &dyn Reporter) -> Result<()> {
    if modules.join("modules.dep").exists() {
        return Ok(());
    }
    let base = modules.ancestors().nth(3).unwrap_or(root);
    let mut depmod = Command::new("/sbin/depmod");
    depmod.arg("-b").arg(base).args(modules.file_name());
    tool::run(&mut depmod, "index the kernel's modules", reporter)
        .map_err(|error| error.hint("apt-get install kmod"))
}

fn files_of(dir: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    let err = |e: std::io::Error| io_error("list", dir, &e);
    let entries = fs::read_dir(dir).map_err(err)?.collect::<std::io::Result<Vec<_>>>().map_err(err)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(suffix));
    paths.sort();
    Ok(paths)
}

fn only(paths: Vec<PathBuf>, prefix: &str, image: &str) -> Result<PathBuf> {
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    paths.into_iter().find(named).ok_or_else(|| odd_package(image))
}

fn odd_package(image: &str) -> Error {
    Error::new(ErrorCode::InvalidInput, format!("package {image} holds no kernel where one is expected"))
}

/// A tree in the pool's staging, gone when dropped.
struct Scratch<'p>(tine_store::BaseStage<'p>);

impl<'p> Scratch<'p> {
    fn new(pool: &'p Pool) -> Result<Self> {
        Ok(Self(pool.stage_base(None)?))
    }

    fn path(&self) -> PathBuf {
        self.0.root_path()
    }
}
