//! The grammar of the command line: the global flags and the list of commands.
//!
//! What each command takes stands beside what it does, in `commands`.

use crate::commands::{
    base, check, completion, cp, create, delete, detach, df, diff, doctor, exec, fork, gc, hub, image, info,
    init, kernel, key, lifecycle, list, logs, pack, ps, pull, push, recipe, rename, shell, snapshot, unpack,
    update, version, volume,
};
use clap::{Arg, ArgMatches, Args, CommandFactory as _, Parser, Subcommand};
use std::path::PathBuf;
use tine_model::ProjectName;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "tine",
    about = "Gives a program its own Linux machine in milliseconds, lets it go wrong, and rolls it back",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  tine create web\n  tine exec web -- sh -c 'echo hello > /etc/motd'\n  tine delete web --yes"
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command, before or after its name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder of the pool [env: TINE_ROOT] [default: /var/lib/tine]
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "host")]
    pub root: Option<PathBuf>,
    /// Server to talk to instead of a pool of this machine [env: TINE_HOST]
    #[arg(long, global = true, value_name = "URL")]
    pub host: Option<String>,
    /// Print one JSON document
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Print names only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Destroy without asking
    #[arg(long, global = true)]
    pub yes: bool,
    /// Wait so long for another operation on the same box
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10)]
    pub wait: u32,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a pool, or mount the one there is
    Init(init::Args),
    /// Stop every box and unmount the pool
    Detach(detach::Args),
    /// Check everything Tine needs of this machine
    Doctor(doctor::Args),
    /// Show how full the pool is
    Df(df::Args),
    /// Remove what nothing refers to
    Gc(gc::Args),
    /// Verify the store
    Check(check::Args),
    /// Make a box
    Create(Box<create::Args>),
    /// List boxes
    #[command(alias = "ls")]
    List(list::Args),
    /// Show a box
    Info(info::Args),
    /// Start a box
    Start(lifecycle::StartArgs),
    /// Stop a box
    Stop(lifecycle::StopArgs),
    /// Freeze a running box
    Pause(lifecycle::PauseArgs),
    /// Thaw a paused box
    Resume(lifecycle::ResumeArgs),
    /// Give a stopped box another name
    Rename(rename::Args),
    /// Delete a box and its snapshots
    #[command(alias = "rm")]
    Delete(delete::Args),
    /// Change a box's settings
    Update(Box<update::Args>),
    /// Run a program in a box
    Exec(exec::Args),
    /// Open a shell in a box
    Shell(shell::Args),
    /// List the processes of a box
    Ps(ps::Args),
    /// Show the output of a box's background programs
    Logs(logs::Args),
    /// Copy files into and out of boxes
    Cp(cp::Args),
    /// Keep and bring back moments of a box
    #[command(
        subcommand,
        after_help = "Example:\n  tine snapshot create web good\n  tine snapshot restore web good"
    )]
    Snapshot(snapshot::Command),
    /// Show what changed in a box
    #[command(subcommand, after_help = "Example:\n  tine diff status web\n  tine diff file web /etc/motd")]
    Diff(diff::Command),
    /// Templates that boxes are made from
    #[command(subcommand, after_help = "Example:\n  tine base install box-base\n  tine base list")]
    Base(base::Command),
    /// Warmed machines that boxes are forked from
    #[command(
        subcommand,
        after_help = "Example:\n  tine image bake python-numpy --base python --run 'python3 /srv/warm.py'\n  tine image list"
    )]
    Image(image::Command),
    /// List images
    Images(image::ImagesArgs),
    /// Make running boxes that go on from an image, or from a running vm box
    Fork(Box<fork::Args>),
    /// Write an image as one file that other hosts can read
    Pack(pack::Args),
    /// Verify a pack and store its images
    Unpack(unpack::Args),
    /// Fetch a pack, verify it and store its images
    Pull(pull::Args),
    /// Pack an image and send it somewhere
    Push(push::Args),
    /// Keep and look at indexes of packs
    #[command(
        subcommand,
        after_help = "Example:\n  tine hub init /srv/hub\n  tine hub add python-numpy.tine.tar.zst tine/python-numpy --hub /srv/hub"
    )]
    Hub(hub::Command),
    /// Keys that sign packs and hubs, and what is asked of signatures
    #[command(
        subcommand,
        after_help = "Example:\n  tine key generate release\n  tine key trust friend friend.pub"
    )]
    Key(key::Command),
    /// Kernels that vm boxes boot
    #[command(subcommand, after_help = "Example:\n  tine kernel install\n  tine kernel list")]
    Kernel(kernel::Command),
    /// Maintained definitions that become warmed images
    #[command(
        subcommand,
        after_help = "Example:\n  tine recipe list\n  tine recipe build nodejs\n  tine fork nodejs"
    )]
    Recipe(recipe::Command),
    /// Data that outlives boxes
    #[command(
        subcommand,
        after_help = "Example:\n  tine volume create data\n  tine create web -d data=/srv/data"
    )]
    Volume(volume::Command),
    /// Print a script that completes commands in a shell
    Completion(completion::Args),
    /// Print the version
    Version(version::Args),
}

const PROJECT: &str = "project";

/// The grammar as clap needs it, with `--project` on every level but on `base import`, where `-p` is the parent.
pub fn grammar() -> clap::Command {
    with_project(Cli::command())
}

fn with_project(command: clap::Command) -> clap::Command {
    let takes_parent = command.get_arguments().any(|a| a.get_short() == Some('p'));
    let command = command.mut_subcommands(with_project);
    if takes_parent { command } else { command.arg(project_arg()) }
}

fn project_arg() -> Arg {
    Arg::new(PROJECT)
        .short('p')
        .long("project")
        .value_name("PROJECT")
        .help("Project of the boxes and volumes named [env: TINE_PROJECT] [default: default]")
        .help_heading("Global options")
        .value_parser(|text: &str| text.parse::<ProjectName>())
}

/// The project typed, the one nearest to the end of the line.
pub fn typed_project(matches: &ArgMatches) -> Option<ProjectName> {
    let (mut level, mut found) = (Some(matches), None);
    while let Some(here) = level {
        if let Ok(Some(project)) = here.try_get_one::<ProjectName>(PROJECT) {
            found = Some(project.clone());
        }
        level = here.subcommand().map(|(_, below)| below);
    }
    found
}

impl Command {
    /// Whether the command may have a project at all: `base import` has its parent where others have that.
    pub fn takes_project(&self) -> bool {
        !matches!(self, Self::Base(base::Command::Import(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    fn project_of(line: &str) -> (Option<String>, bool) {
        let matches = grammar().try_get_matches_from(line.split(' ')).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        (typed_project(&matches).map(String::from), cli.command.takes_project())
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn a_project_may_stand_anywhere_but_on_import() {
        assert_eq!(project_of("tine -p a list"), (Some("a".into()), true));
        assert_eq!(project_of("tine -p a list -p b"), (Some("b".into()), true));
        assert_eq!(project_of("tine snapshot -p c list web"), (Some("c".into()), true));
        assert_eq!(project_of("tine list"), (None, true));
        assert_eq!(project_of("tine base import x --file f -p parent"), (None, false));
        assert_eq!(project_of("tine -p a base import x --file f"), (Some("a".into()), false));
        assert!(
            grammar().try_get_matches_from("tine base import x --file f --project y".split(' ')).is_err()
        );
    }

    #[test]
    fn global_flags_stand_before_and_after() {
        for line in ["tine -j --yes --wait 3 snapshot list web", "tine snapshot list web -j --yes --wait 3"] {
            let cli =
                Cli::from_arg_matches(&grammar().try_get_matches_from(line.split(' ')).unwrap()).unwrap();
            assert!(cli.global.json && cli.global.yes && cli.global.wait == 3, "{line}");
        }
    }
}
