//! Finding an engine that answers, building with it, and handing its image's root over as a tar stream.

use super::words::{self, Words};
use crate::tool;
use std::{
    env::consts::ARCH,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};
use tine_model::{BuildBase, BuildEngine, Error, ErrorCode, Reporter, Result};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const SHORT_TIMEOUT: Duration = Duration::from_secs(120);
/// A Dockerfile longer than this is not one.
const MAX_DOCKERFILE: u64 = 1 << 20;

/// A built image: what built it, from which text, and its root as a stream.
pub struct Built {
    /// The engine.
    pub engine: BuildEngine,
    /// The Dockerfile's text.
    pub script: String,
    container: Container,
}

impl Built {
    /// Calls `consume` with the root as a tar stream, then makes sure that the engine wrote all of it.
    ///
    /// # Errors
    /// Those of `consume`, and `tool_failed` when the engine fails.
    pub fn read_root<T>(&self, consume: impl FnOnce(&mut (dyn Read + Send)) -> Result<T>) -> Result<T> {
        let mut export = Export::start(&words::export(self.engine, &self.container.id))?;
        let consumed = consume(&mut export.out)?;
        export.finish()?;
        Ok(consumed)
    }
}

/// Builds the request's Dockerfile with the engine asked for, or the first that is there and answers.
///
/// # Errors
/// `unsupported` when no engine answers, `not_found` when there is no Dockerfile, `wrong_architecture` when the
/// result is not for amd64, `tool_failed` when the build fails.
pub fn build(request: &BuildBase, reporter: &dyn Reporter) -> Result<Built> {
    let dockerfile = dockerfile_path(request);
    let script = read_dockerfile(&dockerfile)?;
    let engine = find_engine(request.engine)?;
    if words::needs_buildx(engine, ARCH) {
        require_buildx()?;
    }
    let image = words::image(request);
    let build = words::build(engine, ARCH, request, &dockerfile.to_string_lossy());
    reporter.step(&format!("building {image} with {}", engine.program()), None);
    tool::run(&mut command(&build), &format!("build {image} with {}", engine.program()), reporter)?;
    require_amd64(engine, &image)?;
    let container = Container::create(engine, &image)?;
    Ok(Built { engine, script, container })
}

fn command(words: &Words) -> Command {
    let mut words = words.0.iter();
    let mut command = Command::new(words.next().map_or("false", String::as_str));
    command.args(words);
    command
}

fn dockerfile_path(request: &BuildBase) -> PathBuf {
    match &request.dockerfile {
        Some(path) => PathBuf::from(path),
        None => Path::new(&request.context_dir).join("Dockerfile"),
    }
}

fn read_dockerfile(path: &Path) -> Result<String> {
    let shown = path.display();
    let refuse = |e: std::io::Error| Error::new(ErrorCode::NotFound, format!("read {shown}: {e}"));
    let file = std::fs::File::open(path).map_err(refuse)?;
    let mut text = String::new();
    file.take(MAX_DOCKERFILE + 1).read_to_string(&mut text).map_err(refuse)?;
    if text.len() as u64 > MAX_DOCKERFILE {
        return Err(Error::new(ErrorCode::TooLarge, format!("{shown} is longer than 1 MiB")));
    }
    Ok(text)
}

fn answers(engine: BuildEngine) -> Result<()> {
    let doing = format!("ask {} whether it works", engine.program());
    tool::capture(&mut command(&words::answers(engine)), &doing, ANSWER_TIMEOUT).map(drop)
}

fn find_engine(wanted: Option<BuildEngine>) -> Result<BuildEngine> {
    if let Some(engine) = wanted {
        return answers(engine).map(|()| engine);
    }
    let mut reasons = Vec::new();
    for engine in BuildEngine::ALL {
        match answers(engine) {
            Ok(()) => return Ok(engine),
            Err(error) => reasons.push(error.message),
        }
    }
    let message = format!("no container engine answers: {}", reasons.join("; "));
    Err(Error::new(ErrorCode::Unsupported, message).hint("apt-get install podman"))
}

fn require_buildx() -> Result<()> {
    tool::capture(&mut command(&words::has_buildx()), "look for docker buildx", ANSWER_TIMEOUT)
        .map(drop)
        .map_err(|e| {
            let message = format!("docker needs buildx to build for amd64 on {ARCH}: {}", e.message);
            Error::new(ErrorCode::Unsupported, message).hint("apt-get install docker-buildx")
        })
}

fn require_amd64(engine: BuildEngine, image: &str) -> Result<()> {
    let words = words::architecture(engine, image);
    let found = tool::capture(&mut command(&words), &format!("inspect {image}"), SHORT_TIMEOUT)?;
    match found.trim() {
        "amd64" => Ok(()),
        other => {
            let message = format!("{image} was built for {other:?}, and boxes are amd64");
            Err(Error::new(ErrorCode::WrongArchitecture, message)
                .hint("FROM --platform=linux/amd64 … in the Dockerfile"))
        }
    }
}

/// A container that exists only to be exported; removed when dropped.
struct Container {
    engine: BuildEngine,
    id: String,
}

impl Container {
    fn create(engine: BuildEngine, image: &str) -> Result<Self> {
        let words = words::create(engine, image);
        let said =
            tool::capture(&mut command(&words), &format!("create a container of {image}"), SHORT_TIMEOUT)?;
        // warnings may come before it; the id is the last word of hex digits
        let id =
            said.split_whitespace().rev().find(|w| w.len() >= 12 && w.bytes().all(|b| b.is_ascii_hexdigit()));
        let id = id.ok_or_else(|| {
            Error::new(ErrorCode::ToolFailed, format!("{} create printed no container id", engine.program()))
        })?;
        Ok(Self { engine, id: id.to_owned() })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let words = words::remove(self.engine, &self.id);
        let _ = tool::capture(&mut command(&words), "remove the container", SHORT_TIMEOUT);
    }
}

/// A running export, killed when dropped before its end.
struct Export {
    child: Child,
    out: ChildStdout,
}

impl Export {
    fn start(words: &Words) -> Result<Self> {
        let failed =
            |e: &dyn std::fmt::Display| Error::new(ErrorCode::ToolFailed, format!("export the image: {e}"));
        let mut child = command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(&e))?;
        match child.stdout.take() {
            Some(out) => Ok(Self { child, out }),
            None => Err(failed(&"its output is not a pipe")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let drained = std::io::copy(&mut self.out, &mut std::io::sink());
        let ended = drained.and_then(|_| self.child.wait());
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::new(ErrorCode::ToolFailed, format!("export the image: {status}"))),
            Err(error) => Err(Error::new(ErrorCode::ToolFailed, format!("export the image: {error}"))),
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
