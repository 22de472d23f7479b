//! What a vm box is started with: QEMU and what runs its instructions here, the kernel, the hardware; and whether this
//! host can load a saved machine.

use crate::{LocalEngine, io_error, pool_id};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Write,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};
use tine_machine::{
    MachineSpec, MonitorProgram, StartSpec,
    net::{Device, NetworkSpec},
    vm::{self, Boot, Engine, Hardware, Module, Probe, VmSpec},
};
use tine_model::{
    Accel, BoxName, BoxRef, BoxSettings, ByteSize, Contract, Error, ErrorCode, NetworkMode, Result, Silent,
};
use tine_store::{BoxMeta, KernelRecord, Pool, StateFiles};

/// Memory of a vm box that asks for none.
const DEFAULT_MEMORY: u64 = 512 << 20;
/// Seconds in which a guest must have booted or gone on; emulated on a busy host it takes its time.
const PATIENCE_SECONDS: u32 = 180;
/// What was found out about the host, until it is rebooted.
const CACHE: &str = "engine.json";

/// What was found out about the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    engine: Engine,
    /// By which kernel it was found out, and what.
    probe: Option<(String, Probe)>,
}

/// What runs vm boxes on this host.
#[derive(Debug, Clone)]
pub struct Runner {
    /// QEMU.
    pub engine: Engine,
    /// What runs a guest's instructions; none as long as no kernel is there to find out with.
    pub probe: Option<Probe>,
}

impl Runner {
    /// Finds QEMU and what runs a guest here; remembered until the host is rebooted or QEMU is another.
    pub fn find(engine: &LocalEngine, kernel: Option<&KernelRecord>) -> Result<Self> {
        let path = engine.config.runtime_dir.join(CACHE);
        let cached = read(&path).filter(|known| known.engine.is_current());
        let mut is_new = cached.is_none();
        let mut known = match cached {
            Some(known) => known,
            None => Known { engine: Engine::find().map_err(no_qemu)?, probe: None },
        };
        let stale = |kernel: &KernelRecord| {
            known.probe.as_ref().is_none_or(|(digest, _)| *digest != kernel.digest.to_string())
        };
        if let Some(kernel) = kernel.filter(|kernel| stale(kernel)) {
            known.probe = Some((kernel.digest.to_string(), known.engine.probe(&kernel.vmlinuz)));
            is_new = true;
        }
        if is_new {
            // a cache: what cannot be written is found out again
            let _ = write(&path, &known);
        }
        Ok(Self { engine: known.engine, probe: known.probe.map(|(_, probe)| probe) })
    }

    /// What runs a guest's instructions, unless it is forced.
    pub fn accel(&self, forced: Option<Accel>) -> Accel {
        forced.or(self.probe.as_ref().map(|probe| probe.accel)).unwrap_or(Accel::Tcg)
    }

    /// Refuses a saved machine that cannot go on here, with the reason.
    pub fn require(&self, contract: &Contract, what: &str) -> Result<()> {
        let kernel = (contract.kernel.clone(), contract.kernel_digest);
        let here = Hardware::of_contract(contract).contract(&self.engine.version, kernel, &vm::cpu_flags());
        match self.mismatch(contract, &here) {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorCode::Incompatible, format!("{what} cannot go on here: {why}"))),
        }
    }

    fn mismatch(&self, wanted: &Contract, here: &Contract) -> Option<String> {
        let pairs = [
            ("engine", &wanted.engine, &here.engine),
            ("machine type", &wanted.machine, &here.machine),
            ("cpu model", &wanted.cpu_model, &here.cpu_model),
        ];
        if let Some((what, wanted, here)) = pairs.into_iter().find(|(_, wanted, here)| wanted != here) {
            return Some(format!("it needs the {what} {wanted}, and this host has {here}"));
        }
        if numbers(&here.engine_version) < numbers(&wanted.engine_version) {
            let (wanted, here) = (&wanted.engine_version, &here.engine_version);
            return Some(format!("it needs qemu {wanted} or later, and this host has {here}"));
        }
        if wanted.accel == Accel::Kvm && self.accel(None) != Accel::Kvm {
            let why = self.probe.as_ref().map_or("there is no kernel to try it with", |probe| &probe.reason);
            return Some(format!("it needs kvm, which does not run a guest here: {why}"));
        }
        if let Some(missing) = wanted.cpu_features.iter().find(|f| !here.cpu_features.contains(f)) {
            return Some(format!("it needs a processor with {missing}"));
        }
        if wanted.devices != here.devices {
            return Some("it has other devices than the machines of this version".to_owned());
        }
        None
    }
}

/// The leading numbers of a version, to be compared.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

fn no_qemu(error: tine_machine::MachineError) -> Error {
    Error::from(error).hint("apt-get install qemu-system-x86")
}

fn read(path: &Path) -> Option<Known> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write(path: &Path, known: &Known) -> std::io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(dir)?;
    let fresh = dir.join(format!("{CACHE}.{}", std::process::id()));
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(known)?)?;
    std::fs::rename(&fresh, path)
}

/// Settings of a vm box with what was not said filled in; refuses what a vm box cannot have.
pub fn complete(settings: &BoxSettings) -> Result<BoxSettings> {
    const MIB: u64 = 1 << 20;
    if settings.network == NetworkMode::Host {
        let message = "a vm box has a network of its own and cannot use the host's";
        return Err(Error::new(ErrorCode::Usage, message).hint("--net nat, or --net none"));
    }
    if settings.limits.pids.is_some() {
        let message = "a guest counts its own processes; only those of a container can be limited";
        return Err(Error::new(ErrorCode::Usage, message));
    }
    let mut settings = settings.clone();
    let memory = settings.limits.memory_bytes.map_or(DEFAULT_MEMORY, ByteSize::bytes);
    if memory < 64 * MIB {
        let message = format!("{} of memory is too little to boot; 64 MiB is the least", ByteSize(memory));
        return Err(Error::new(ErrorCode::Usage, message));
    }
    settings.limits.memory_bytes = Some(ByteSize(memory.next_multiple_of(MIB)));
    settings.cpus = Some(settings.cpus.unwrap_or(1));
    Ok(settings)
}

/// What a machine starts from.
pub enum From<'a> {
    /// Its disk, under the box's kernel.
    Disk,
    /// A saved state.
    State {
        /// Its files. They are open in this process, which lives until the machine has them.
        files: &'a StateFiles,
        /// What it needs.
        contract: &'a Contract,
    },
}

/// Where a machine's box lies.
pub struct Place {
    /// Its run directory.
    pub run_dir: PathBuf,
    /// Its root.
    pub root: PathBuf,
    /// Its name, or the name it is going to have.
    pub name: BoxRef,
}

/// What the machine of a vm box is started with.
pub fn start_spec(
    engine: &LocalEngine,
    pool: &Pool,
    place: &Place,
    meta: &BoxMeta,
    from: &From<'_>,
) -> Result<StartSpec> {
    let Place { run_dir, root, name } = place;
    let log_dir = run_dir.parent().map_or_else(|| run_dir.clone(), PathBuf::from);
    Ok(StartSpec {
        id: meta.id.clone(),
        hostname: name.name.clone(),
        log_dir,
        limits: meta.settings.limits,
        network: network(engine, pool, name, &meta.settings, run_dir)?,
        machine: MachineSpec::Vm(Box::new(vm_spec(engine, pool, root, meta, from)?)),
        tied: false,
        run_dir: run_dir.clone(),
    })
}

fn network(
    engine: &LocalEngine,
    pool: &Pool,
    name: &BoxRef,
    settings: &BoxSettings,
    run_dir: &Path,
) -> Result<NetworkSpec> {
    Ok(NetworkSpec {
        mode: settings.network,
        device: Device::Tap,
        project: name.project.clone(),
        box_name: name.name.clone(),
        pool_id: pool_id(pool)?,
        publish: settings.publish.clone(),
        host_ports: settings.host_ports.clone(),
        state_dir: run_dir.to_owned(),
        runtime_dir: engine.config.runtime_dir.clone(),
    })
}

fn vm_spec(
    engine: &LocalEngine,
    pool: &Pool,
    root: &Path,
    meta: &BoxMeta,
    from: &From<'_>,
) -> Result<VmSpec> {
    let (runner, hardware, contract, boot) = match from {
        From::State { files, contract } => {
            let runner = Runner::find(engine, None)?;
            let hardware = Hardware::of_contract(contract);
            let boot = Boot::State { memory: descriptor(&files.memory), vmstate: descriptor(&files.vmstate) };
            (runner, hardware, (*contract).clone(), boot)
        }
        From::Disk => {
            let kernel = kernel_of(pool, meta)?;
            let runner = Runner::find(engine, Some(&kernel))?;
            let settings = complete(&meta.settings)?;
            let hardware = Hardware {
                accel: runner.accel(settings.accel),
                cpus: settings.cpus.unwrap_or(1),
                memory_bytes: settings.limits.memory_bytes.unwrap_or(ByteSize(DEFAULT_MEMORY)),
            };
            let named = (kernel.name.clone(), kernel.digest);
            let contract = hardware.contract(&runner.engine.version, named, &vm::cpu_flags());
            let boot = Boot::Kernel { initrd: initrd(pool, &kernel)?, kernel: kernel.vmlinuz };
            (runner, hardware, contract, boot)
        }
    };
    Ok(VmSpec {
        qemu: runner.engine.program,
        hardware,
        contract,
        boot,
        disk: root.join("disk.img"),
        patience_seconds: PATIENCE_SECONDS,
    })
}

/// A path by which another process opens a file that this one has open, wherever it lies by then.
fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

/// The kernel a box boots: its own, as long as that is there, else the newest.
fn kernel_of(pool: &Pool, meta: &BoxMeta) -> Result<KernelRecord> {
    if let Some(name) = &meta.kernel
        && let Ok(kernel) = pool.kernel(name)
    {
        return Ok(kernel);
    }
    Ok(pool.default_kernel(&Silent)?)
}

/// The initramfs for a kernel with this program's agent; made when it is first needed.
fn initrd(pool: &Pool, kernel: &KernelRecord) -> Result<PathBuf> {
    let id = vm::agent_id();
    if let Some(path) = pool.kernel_initrd(&kernel.name, &id)? {
        return Ok(path);
    }
    let modules = stored_modules(&kernel.modules)?;
    Ok(pool.put_kernel_initrd(&kernel.name, &id, |file| {
        // the machine's process, which is not root, opens it
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        vm::write_initramfs(&modules, file).map_err(|e| std::io::Error::other(e.to_string()))
    })?)
}

/// The modules of a kernel in the pool, in the order in which they are loaded.
fn stored_modules(dir: &Path) -> Result<Vec<Module>> {
    let order = dir.join("order");
    let names = std::fs::read_to_string(&order).map_err(|e| io_error("read", &order, &e))?;
    let module = |name: &str| {
        let path = dir.join(name);
        let content = std::fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
        Ok(Module { name: name.to_owned(), content })
    };
    names.lines().map(module).collect()
}

/// The program that becomes the monitor of a box with this name.
pub fn monitor_program(engine: &LocalEngine, pool: &Pool, name: &BoxRef) -> MonitorProgram {
    MonitorProgram {
        path: engine.config.monitor_program.clone(),
        argv: vec![
            "tine".to_owned(),
            "__monitor".to_owned(),
            pool.root().display().to_string(),
            format!("{}:{}", name.project, name.name),
        ],
    }
}

/// The name in the guest of a machine that is no box.
pub fn bench_name(text: &str) -> Result<BoxRef> {
    let name: BoxName = text.parse()?;
    Ok(BoxRef { project: "tine-bake".parse()?, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(version: &str, accel: Accel) -> Runner {
        let engine =
            Engine { program: "/qemu".into(), version: version.to_owned(), fingerprint: String::new() };
        Runner { engine, probe: Some(Probe { accel, reason: String::new() }) }
    }

    fn contract(accel: Accel) -> Contract {
        let digest = tine_model::Sha256Digest([7; 32]);
        let hardware = Hardware { accel, cpus: 1, memory_bytes: ByteSize(256 << 20) };
        hardware.contract("7.2.22", ("6.1".parse().unwrap(), digest), &[])
    }

    #[test]
    fn a_machine_goes_on_where_its_contract_is_met() {
        let here = runner("7.2.22", Accel::Tcg);
        assert!(here.require(&contract(Accel::Tcg), "image x").is_ok());
        assert!(runner("10.0.2", Accel::Tcg).require(&contract(Accel::Tcg), "image x").is_ok());
    }

    #[test]
    fn what_a_host_lacks_is_named() {
        let why = |runner: &Runner, contract: &Contract| {
            let error = runner.require(contract, "image x").unwrap_err();
            assert_eq!(error.code, ErrorCode::Incompatible);
            error.message
        };
        let here = runner("7.2.22", Accel::Tcg);
        let wanted = contract(Accel::Tcg);
        assert!(why(&runner("7.2.9", Accel::Tcg), &wanted).contains("qemu 7.2.22 or later"));
        assert!(why(&here, &contract(Accel::Kvm)).contains("kvm"));
        let other = |change: &dyn Fn(&mut Contract)| {
            let mut contract = wanted.clone();
            change(&mut contract);
            why(&here, &contract)
        };
        assert!(other(&|c| c.machine = "pc-q35-9.0".into()).contains("machine type pc-q35-9.0"));
        assert!(other(&|c| c.cpu_model = "EPYC".into()).contains("cpu model EPYC"));
        assert!(other(&|c| c.engine = "firecracker".into()).contains("engine firecracker"));
        assert!(other(&|c| c.devices.truncate(1)).contains("devices"));
        assert!(other(&|c| c.cpu_features = vec!["nosuch".into()]).contains("nosuch"));
    }

    #[test]
    fn settings_of_a_machine_are_completed_or_refused() {
        let done = complete(&BoxSettings::default()).unwrap();
        assert_eq!((done.cpus, done.limits.memory_bytes), (Some(1), Some(ByteSize(DEFAULT_MEMORY))));
        let mut settings = BoxSettings::default();
        settings.limits.memory_bytes = Some(ByteSize((100 << 20) + 1));
        assert_eq!(complete(&settings).unwrap().limits.memory_bytes, Some(ByteSize(101 << 20)));
        settings.limits.memory_bytes = Some(ByteSize(1 << 20));
        assert!(complete(&settings).is_err());
        settings.limits = tine_model::Limits { pids: Some(9), ..Default::default() };
        assert_eq!(complete(&settings).unwrap_err().code, ErrorCode::Usage);
        let host = BoxSettings { network: NetworkMode::Host, ..Default::default() };
        assert_eq!(complete(&host).unwrap_err().code, ErrorCode::Usage);
    }
}
