//! Transcripts of what belongs to vm boxes: images, forks, kernels and live snapshots.

use super::{Shared, say, transcript, words};
use crate::{
    app,
    cli::{self, Cli},
    commands,
    confirm::Permission,
    fake::Fake,
    output::{Manner, Output},
};
use clap::FromArgMatches as _;
use std::io::{self, Write};
use tine_model::{ForkReport, ImageInfo, ProjectName};

#[test]
fn vm_boxes() {
    insta::assert_snapshot!(transcript(
        &[
            "tine create machine --vm",
            "tine create machine --vm --cpus 2 --accel tcg --memory 1GiB --disk 20GiB --net none",
            "tine create warm --image python-numpy",
            "tine create cool --image python-numpy --cold --rm",
            "tine info machine",
            "tine -j info machine",
            "tine logs machine --console -n 3",
            "tine snapshot create machine --live -m 'warm'",
            "tine -q snapshot create machine --live",
            "tine -j snapshot create machine --live",
            "tine snapshot show machine live",
            "tine snapshot restore machine live",
            "tine df",
            "tine -q df",
            "tine -j df",
        ],
        false
    ));
}

#[test]
fn images() {
    insta::assert_snapshot!(transcript(
        &[
            "tine image bake plain --base box-base",
            "tine image bake python-numpy --base python --memory 256MiB --cpus 2 --disk 4GiB --net none --accel tcg -e A=1 --run 'echo one' --run 'echo two' --ready 'test -e /run/warm' --timeout 30 -m 'warm'",
            "tine -q image bake later --box other:web",
            "tine -j image bake later --box web",
            "tine image list",
            "tine images",
            "tine -q images",
            "tine image show python-numpy",
            "tine -q image show python-numpy",
            "tine image rename python-numpy numpy-2",
            "tine -j image rename python-numpy numpy-2",
            "tine image delete python-numpy",
            "tine image delete python-numpy --yes",
            "tine image delete a b a --yes",
            "tine -q image delete a b --yes",
            "tine -j image delete a --yes",
            "tine image delete a b --dry-run",
            "tine image delete a gone --yes",
            "tine image delete a stuck --yes",
            "tine -j image delete gone --dry-run",
        ],
        false
    ));
}

#[test]
fn forks() {
    insta::assert_snapshot!(transcript(
        &[
            "tine fork python-numpy",
            "tine fork --tag python-numpy -n 10",
            "tine fork --box other:web -n 2 --prefix branch",
            "tine -p team fork Web_1.0 -n 2 --net none -e A=1 -t k=v --rm --cold",
            "tine -q fork python-numpy -n 2",
            "tine -j fork python-numpy -n 1",
            "tine fork partial -n 4",
            "tine -q fork partial -n 3",
            "tine -j fork partial -n 2",
            "tine fork stopped -n 7",
            "tine fork hasty -n 2",
            "tine fork full -n 2",
            "tine -j fork full",
        ],
        false
    ));
}

#[test]
fn kernels() {
    insta::assert_snapshot!(transcript(
        &[
            "tine kernel install",
            "tine -q kernel install",
            "tine -j kernel install",
            "tine kernel import --vmlinuz /boot/vmlinuz --modules /lib/modules/6.1.0-1-cloud-amd64/.",
            "tine kernel import --vmlinuz /boot/vmlinuz --modules /lib/modules/x --name mine",
            "tine kernel list",
            "tine -q kernel list",
            "tine -j kernel list",
        ],
        false
    ));
}

#[test]
fn recipes() {
    insta::assert_snapshot!(transcript(
        &[
            "tine recipe list",
            "tine -q recipe list",
            "tine -j recipe list",
            "tine recipe build nodejs python-numpy",
            "tine -q recipe build --all --force",
            "tine -j recipe build python-numpy --tag numpy-2 --force",
            "tine recipe build nodejs nope",
            "tine -j recipe build nope",
            "tine recipe build nodejs python-numpy --tag x",
            "tine recipe publish nodejs --hub /srv/hub --sign release",
            "tine recipe publish nodejs python-numpy --hub /srv/hub",
            "tine recipe publish nodejs --hub /srv/hub --sign friend",
        ],
        false
    ));
}

#[test]
fn no_machines() {
    insta::assert_snapshot!(transcript(
        &[
            "tine image list",
            "tine images -q",
            "tine images -j",
            "tine kernel list",
            "tine recipe list",
            "tine df"
        ],
        true
    ));
}

#[test]
fn an_image_list_is_a_document_of_images() {
    let document = say("tine -j image list", &Fake::default()).out;
    let images: Vec<ImageInfo> = serde_json::from_str(&document).unwrap();
    assert_eq!(images.iter().map(|i| i.tag.as_str()).collect::<Vec<_>>(), ["Web_1.0", "python-numpy"]);
    assert_eq!(say("tine -j images", &Fake::default()).code, 0);
}

#[test]
fn a_fork_is_one_document_that_can_be_read_back() {
    let said = say("tine -j fork partial -n 5", &Fake::default());
    let report: ForkReport = serde_json::from_str(&said.out).unwrap();
    assert_eq!((report.ready.len(), report.failed.len(), said.code), (3, 2, 1));
}

/// A stream that counts flushes, or whose reader has gone.
struct Odd {
    seen: Shared,
    gone: bool,
}

impl Write for Odd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone { Err(io::ErrorKind::BrokenPipe.into()) } else { self.seen.write(bytes) }
    }
    fn flush(&mut self) -> io::Result<()> {
        self.seen.write_all(b"<flushed>")
    }
}

fn fork_into(line: &str, gone: bool) -> (u8, String) {
    let matches = cli::grammar().try_get_matches_from(words(line)).unwrap();
    let cli = Cli::from_arg_matches(&matches).unwrap();
    let manner = Manner { json: false, quiet: cli.global.quiet, permission: Permission::Given };
    let seen = Shared::default();
    let mut out = Output::to(Box::new(Odd { seen: seen.clone(), gone }), Box::new(io::sink()), manner);
    let result = commands::run(&Fake::default(), &ProjectName::default_project(), &cli.command, &mut out);
    (app::finish(result, &cli, &mut out), seen.text())
}

#[test]
fn each_child_is_told_at_once() {
    let (code, text) = fork_into("tine -q fork x -n 2", false);
    assert_eq!((code, text.as_str()), (0, "x-1\n<flushed>x-2\n<flushed>"));
}

#[test]
fn a_reader_that_leaves_hides_no_failure() {
    assert_eq!(fork_into("tine fork x -n 2", true).0, 0);
    assert_eq!(fork_into("tine fork partial -n 3", true).0, 1);
}
