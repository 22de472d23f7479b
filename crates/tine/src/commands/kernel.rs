//! `tine kernel install`, `import` and `list`: what the machines of vm boxes boot.

use crate::{args::absolute, failure::Outcome, output::Output, progress::Length, table::or_dash};
use std::path::PathBuf;
use tine_model::{ImportKernel, KernelInfo, KernelName, Service};

/// The commands of `kernel`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Fetch the kernel that the distribution makes for virtual machines
    Install(InstallArgs),
    /// Take a kernel of this machine
    Import(ImportArgs),
    /// List kernels
    #[command(alias = "ls")]
    List(ListArgs),
}

/// What `kernel install` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine kernel install")]
pub struct InstallArgs {}

/// What `kernel import` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tine kernel import --vmlinuz /boot/vmlinuz-6.1.0-1-amd64 --modules /lib/modules/6.1.0-1-amd64"
)]
pub struct ImportArgs {
    /// The kernel: a bzImage
    #[arg(long, value_name = "FILE")]
    pub vmlinuz: PathBuf,
    /// Its modules: a folder with kernel/ and modules.dep in it
    #[arg(long, value_name = "DIR")]
    pub modules: PathBuf,
    /// Its name [default: the folder's]
    #[arg(long)]
    pub name: Option<KernelName>,
}

/// What `kernel list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine kernel list")]
pub struct ListArgs {}

/// Runs a command of `kernel`.
pub fn run(service: &dyn Service, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Install(_) => {
            let progress = out.progress(Length::Long);
            let kernel = progress.cause(service.install_kernel(&progress))?;
            drop(progress);
            report(&kernel, out)
        }
        Command::Import(args) => import(service, args, out),
        Command::List(_) => list(service, out),
    }
}

fn import(service: &dyn Service, args: &ImportArgs, out: &mut Output) -> Outcome {
    let request = ImportKernel {
        vmlinuz: absolute(&args.vmlinuz)?,
        modules: absolute(&args.modules)?,
        name: args.name.clone(),
    };
    let kernel = out.long_work(|progress| service.import_kernel(&request, progress))?;
    report(&kernel, out)
}

fn report(kernel: &KernelInfo, out: &mut Output) -> Outcome {
    out.name(kernel, &kernel.name)?;
    let use_of_it = if kernel.default { "; new machines boot it" } else { "" };
    out.say(&format!("kernel {} ({}){use_of_it}", kernel.name, kernel.size_bytes));
    Ok(0)
}

fn list(service: &dyn Service, out: &mut Output) -> Outcome {
    let kernels = service.list_kernels(&out.progress(Length::Short))?;
    let row = |k: &KernelInfo| {
        let default = or_dash(k.default.then_some("yes"));
        vec![k.name.to_string(), k.size_bytes.to_string(), k.created_at.to_string(), default]
    };
    let rows: Vec<Vec<String>> = kernels.iter().map(row).collect();
    out.rows(&kernels, &["NAME", "SIZE", "CREATED", "DEFAULT"], &rows)?;
    Ok(0)
}
