//! The virtual machine as the guest sees it, and QEMU's command line for it.
//!
//! Pure: makes words, starts nothing. Two machines made of equal words can load each other's states, so what the guest
//! can see is a function of [`Hardware`] alone and is written into the [`Contract`].

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use tine_model::{Accel, ByteSize, Contract, KernelName, Sha256Digest};

/// A machine type whose devices stay the same in every later version of QEMU.
const MACHINE: &str = "pc-q35-7.2";
/// A path that does not exist: whoever opens it is given the memory's file.
pub(super) const MEMORY_PATH: &str = "/tine/memory";
/// The descriptors QEMU inherits.
pub(super) const QMP_FD: i32 = 3;
pub(super) const AGENT_FD: i32 = 4;
pub(super) const CONSOLE_FD: i32 = 5;
pub(super) const DISK_FD: i32 = 6;
/// The first of those that a machine may lack.
pub(super) const FIRST_OPTIONAL_FD: i32 = 7;
/// MiB of translated code kept under tcg: enough for a guest that does little, and paid for by every child.
const TRANSLATION_MIB: u32 = 32;

/// What a virtual machine is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// What runs its instructions.
    pub accel: Accel,
    /// Virtual processors.
    pub cpus: u32,
    /// Bytes of memory, whole MiB.
    pub memory_bytes: ByteSize,
}

/// What the machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A kernel and an initramfs, inherited as these descriptors.
    Kernel {
        /// The kernel's.
        kernel: i32,
        /// The initramfs's.
        initrd: i32,
    },
    /// A saved state, which is loaded later.
    State,
}

/// What goes into the command line beside the hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wiring {
    /// What it starts with.
    pub(super) start: Start,
    /// The tap's descriptor; none leaves the network device unplugged.
    pub(super) tap: Option<i32>,
    /// The network device's address.
    pub(super) mac: [u8; 6],
    /// The generation id, which differs in every machine that goes on from one state.
    pub(super) generation: [u8; 16],
}

impl Hardware {
    /// The hardware of a saved machine.
    #[must_use]
    pub fn of_contract(contract: &Contract) -> Self {
        Self { accel: contract.accel, cpus: contract.cpus, memory_bytes: contract.memory_bytes }
    }

    /// The contract of a machine like this that runs `kernel` under QEMU of this version. `host_cpu` are the features
    /// of the host's processor, which matter with kvm only.
    #[must_use]
    pub fn contract(
        &self,
        engine_version: &str,
        kernel: (KernelName, Sha256Digest),
        host_cpu: &[String],
    ) -> Contract {
        let (model, features) = match self.accel {
            Accel::Tcg => ("Westmere", Vec::new()),
            Accel::Kvm => ("host", host_cpu.to_vec()),
        };
        Contract {
            engine: "qemu".to_owned(),
            engine_version: engine_version.to_owned(),
            accel: self.accel,
            machine: MACHINE.to_owned(),
            cpu_model: model.to_owned(),
            cpu_features: features,
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            kernel: kernel.0,
            kernel_digest: kernel.1,
            devices: self.devices(),
        }
    }

    /// Whether it has a high precision event timer (`docs/adr/0013-a-timer-that-lasts.md`).
    ///
    /// Without one, and without kvm's clock, Linux reads the time from the ACPI timer or the processor's counter. The
    /// first has 24 bits and turns over each 4.7 s (ACPI 6.5, 4.8.2.1): a guest that a busy host does not run for longer
    /// loses that time. The second runs as fast as the processor of the host, and a saved machine may go on at another.
    /// Of an HPET Linux uses 32 bits, which last 43 s at QEMU's 100 MHz.
    fn has_hpet(&self) -> bool {
        self.accel == Accel::Tcg
    }

    /// What the guest can see beside the board.
    fn devices(&self) -> Vec<String> {
        let timer = self.has_hpet().then(|| "hpet".to_owned());
        DEVICES.iter().map(|(device, visible)| [*device, visible].concat()).chain(timer).collect()
    }

    /// QEMU's arguments, without its name.
    pub(super) fn arguments(&self, wiring: &Wiring) -> Vec<OsString> {
        let mut words = Words::default();
        self.board(&mut words);
        words.add("-rtc", "base=utc,clock=host");
        words.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        channels(&mut words);
        devices(&mut words, wiring);
        self.start(&mut words, wiring.start);
        words.0
    }

    fn board(&self, words: &mut Words) {
        let mib = self.memory_bytes.bytes() >> 20;
        let hpet = if self.has_hpet() { "on" } else { "off" };
        words.flag("-no-user-config");
        words.flag("-nodefaults");
        words.flag("-no-reboot");
        words.flag("-S");
        words.add("-display", "none");
        words.add("-name", "guest=tine,debug-threads=off");
        words.add(
            "-machine",
            format!("{MACHINE},memory-backend=memory,hpet={hpet},usb=off,vmport=off,smbus=off,sata=off"),
        );
        words.add(
            "-accel",
            match self.accel {
                Accel::Tcg => format!("tcg,tb-size={TRANSLATION_MIB},thread=multi"),
                Accel::Kvm => "kvm".to_owned(),
            },
        );
        words.add(
            "-cpu",
            match self.accel {
                Accel::Tcg => "Westmere",
                Accel::Kvm => "host,migratable=on",
            },
        );
        words.add("-smp", self.cpus.to_string());
        words.add("-m", format!("{mib}M"));
        words.add(
            "-object",
            format!("memory-backend-file,id=memory,size={mib}M,mem-path={MEMORY_PATH},share=off"),
        );
    }

    fn start(&self, words: &mut Words, start: Start) {
        match start {
            Start::Kernel { kernel, initrd } => {
                words.add("-kernel", format!("/proc/self/fd/{kernel}"));
                words.add("-initrd", format!("/proc/self/fd/{initrd}"));
                words.add("-append", self.kernel_command_line());
            }
            Start::State => {
                // the states are saved without this section
                words.add("-global", "migration.send-configuration=off");
                words.add("-incoming", "defer");
            }
        }
    }

    /// Under tcg the guest need not be protected from speculation that does not happen, and takes the time from the HPET.
    fn kernel_command_line(&self) -> String {
        let mut line = "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on i8042.noaux".to_owned();
        if self.accel == Accel::Tcg {
            line.push_str(" mitigations=off no_timer_check tsc=unstable");
        }
        line
    }
}

/// The devices, in the order of their making, and what the guest can see of their settings.
const DEVICES: [(&str, &str); 7] = [
    ("isa-serial", ""),
    ("virtio-serial-pci", ",max_ports=2"),
    ("virtserialport", ",name=tine.agent"),
    ("virtio-blk-pci", ""),
    ("virtio-rng-pci", ",max-bytes=4096,period=1000"),
    ("vmgenid", ""),
    ("virtio-net-pci", ",romfile="),
];

fn channels(words: &mut Words) {
    for (name, fd) in [("qmp", QMP_FD), ("agent", AGENT_FD), ("console", CONSOLE_FD)] {
        words.add("-chardev", format!("socket,id={name},fd={fd}"));
    }
    words.add("-mon", "chardev=qmp,mode=control");
    words.add("-add-fd", format!("fd={DISK_FD},set=1"));
    words.add(
        "-blockdev",
        "driver=file,node-name=file,filename=/dev/fdset/1,aio=threads,discard=unmap,locking=off",
    );
    words.add("-blockdev", "driver=raw,node-name=disk,file=file,discard=unmap");
    words.add("-object", "rng-random,id=entropy,filename=/dev/urandom");
}

fn devices(words: &mut Words, wiring: &Wiring) {
    if let Some(tap) = wiring.tap {
        words.add("-netdev", format!("tap,id=net,fd={tap}"));
    }
    let plug = if wiring.tap.is_some() { ",netdev=net" } else { "" };
    let hidden = [
        ",chardev=console".to_owned(),
        ",id=ports".to_owned(),
        ",bus=ports.0,chardev=agent,id=agent-port".to_owned(),
        // a full pool stops the machine, so that nothing is lost
        ",drive=disk,id=root,werror=enospc,rerror=report".to_owned(),
        ",rng=entropy".to_owned(),
        format!(",guid={}", uuid(wiring.generation)),
        format!(",mac={}{plug}", mac(wiring.mac)),
    ];
    for ((device, visible), hidden) in DEVICES.iter().zip(hidden) {
        words.add("-device", format!("{device}{visible}{hidden}"));
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|b| format!("{b:02x}")).join(":")
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex = |part: &[u8]| part.iter().map(|b| format!("{b:02x}")).collect::<String>();
    [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].map(hex).join("-")
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }
    fn add(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.push(flag.into());
        self.0.push(value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware(accel: Accel) -> Hardware {
        Hardware { accel, cpus: 2, memory_bytes: ByteSize(256 << 20) }
    }

    fn line(accel: Accel, wiring: &Wiring) -> String {
        let words = hardware(accel).arguments(wiring);
        words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn wiring(start: Start, tap: Option<i32>) -> Wiring {
        Wiring { start, tap, mac: [2, 0, 10, 1, 2, 3], generation: [0xab; 16] }
    }

    #[test]
    fn what_the_guest_sees_does_not_depend_on_how_it_starts_or_is_wired() {
        let kernel = Start::Kernel { kernel: 7, initrd: 8 };
        let visible = |line: &str| {
            let devices = line.split(" -device ").skip(1);
            devices.map(|d| d.split([',', ' ']).next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let cold = visible(&line(Accel::Tcg, &wiring(kernel, None)));
        assert_eq!(cold, visible(&line(Accel::Tcg, &wiring(Start::State, Some(9)))));
        assert_eq!(cold, DEVICES.map(|(name, _)| name));
    }

    #[test]
    fn a_contract_names_the_timer_that_the_machine_has() {
        for (accel, setting, named) in [(Accel::Tcg, "hpet=on", true), (Accel::Kvm, "hpet=off", false)] {
            assert!(line(accel, &wiring(Start::State, None)).contains(setting));
            let contract =
                hardware(accel).contract("7.2", ("6.1".parse().unwrap(), Sha256Digest([7; 32])), &[]);
            assert_eq!(contract.devices.iter().any(|device| device == "hpet"), named);
        }
    }

    #[test]
    fn the_agent_finds_its_port() {
        let port = DEVICES.iter().find(|(device, _)| *device == "virtserialport").unwrap();
        assert_eq!(port.1, format!(",name={}", tine_agent::message::PORT));
    }

    #[test]
    fn a_state_is_loaded_without_a_kernel() {
        let restored = line(Accel::Tcg, &wiring(Start::State, None));
        assert!(!restored.contains("-kernel") && restored.contains("-incoming defer"), "{restored}");
        let cold = line(Accel::Kvm, &wiring(Start::Kernel { kernel: 7, initrd: 8 }, None));
        assert!(cold.contains("-kernel /proc/self/fd/7 -initrd /proc/self/fd/8"), "{cold}");
        assert!(cold.contains("-cpu host") && !cold.contains("mitigations=off"), "{cold}");
    }

    #[test]
    fn nothing_of_the_host_stands_in_the_arguments() {
        let text = line(Accel::Tcg, &wiring(Start::State, Some(7)));
        assert!(text.contains("mac=02:00:0a:01:02:03,netdev=net"), "{text}");
        assert!(text.contains("guid=abababab-abab-abab-abab-abababababab"), "{text}");
        assert!(!text.contains("/var/") && !text.contains("/home"), "{text}");
    }
}
