//! The command lines for each engine, as values.
//!
//! Sources: `docker build`, `docker buildx build`, `podman build` and `nerdctl build` references. Only words that
//! all three understand are used, apart from buildx.

use tine_model::{BuildBase, BuildEngine};

/// A command line: the program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl Words {
    fn new(engine: BuildEngine, words: &[&str]) -> Self {
        let program = std::iter::once(engine.program());
        Self(program.chain(words.iter().copied()).map(str::to_owned).collect())
    }
}

const PLATFORM: &str = "linux/amd64";

/// The image's name in the engine: `<name>:latest`.
pub fn image(request: &BuildBase) -> String {
    format!("{}:latest", request.name)
}

/// Fails when the engine's program is there but its daemon is not.
pub fn answers(engine: BuildEngine) -> Words {
    Words::new(engine, &["info"])
}

/// Whether the engine has to cross-build with buildx: docker on a host of another architecture.
pub fn needs_buildx(engine: BuildEngine, host_arch: &str) -> bool {
    engine == BuildEngine::Docker && host_arch != "x86_64"
}

/// Fails when docker lacks its buildx plugin.
pub fn has_buildx() -> Words {
    Words::new(BuildEngine::Docker, &["buildx", "version"])
}

/// Builds the image.
pub fn build(engine: BuildEngine, host_arch: &str, request: &BuildBase, dockerfile: &str) -> Words {
    let image = image(request);
    let common = ["--platform", PLATFORM, "-t", &image, "-f", dockerfile, &request.context_dir];
    let verb: &[&str] =
        if needs_buildx(engine, host_arch) { &["buildx", "build", "--load"] } else { &["build"] };
    Words::new(engine, &[verb, &common].concat())
}

/// Prints the image's architecture.
pub fn architecture(engine: BuildEngine, image: &str) -> Words {
    Words::new(engine, &["image", "inspect", "--format", "{{.Architecture}}", image])
}

/// Makes a container of the image, never started, and prints its id. The command is there because an image may have
/// none and engines refuse to make a container without one.
pub fn create(engine: BuildEngine, image: &str) -> Words {
    Words::new(engine, &["create", "--platform", PLATFORM, image, "/bin/true"])
}

/// Writes the container's root as a tar to its standard output.
pub fn export(engine: BuildEngine, container: &str) -> Words {
    Words::new(engine, &["export", container])
}

/// Removes the container.
pub fn remove(engine: BuildEngine, container: &str) -> Words {
    Words::new(engine, &["rm", "-f", container])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> BuildBase {
        BuildBase { name: "web".parse().unwrap(), context_dir: "/src".into(), dockerfile: None, engine: None }
    }

    fn line(words: &Words) -> String {
        words.0.join(" ")
    }

    #[test]
    fn every_engine_builds_amd64_on_its_own_architecture() {
        for engine in BuildEngine::ALL {
            let expected =
                format!("{} build --platform linux/amd64 -t web:latest -f /src/D /src", engine.program());
            assert_eq!(line(&build(engine, "x86_64", &request(), "/src/D")), expected);
        }
    }

    #[test]
    fn only_docker_needs_buildx_and_only_elsewhere() {
        let docker = build(BuildEngine::Docker, "aarch64", &request(), "/src/D");
        assert_eq!(
            line(&docker),
            "docker buildx build --load --platform linux/amd64 -t web:latest -f /src/D /src"
        );
        let podman = build(BuildEngine::Podman, "aarch64", &request(), "/src/D");
        assert_eq!(line(&podman), "podman build --platform linux/amd64 -t web:latest -f /src/D /src");
        assert!(
            !needs_buildx(BuildEngine::Docker, "x86_64") && !needs_buildx(BuildEngine::Nerdctl, "aarch64")
        );
    }
}
