//! C, C++ and Go programs against the shared library: the calls one by one, the examples, and the programs in
//! docs/c.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a command prints. It must succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The shared library, which Cargo does not build for tests.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-p", "itemdex-c", "--target-dir"]).arg(profile.parent().unwrap());
        run(cargo.args(if cfg!(debug_assertions) { &[][..] } else { &["--release"] }));
        profile.join("libitemdex.so")
    })
}

/// The library, installed as `cargo cinstall` does it: lib/, include/ and a pkg-config file.
struct Installed {
    prefix: TempDir,
}

impl Installed {
    fn new() -> Installed {
        let installed = Installed { prefix: tempfile::tempdir().unwrap() };
        let (lib, include) = (installed.at("lib"), installed.at("include"));
        fs::create_dir_all(lib.join("pkgconfig")).unwrap();
        fs::create_dir(&include).unwrap();
        fs::copy(library(), lib.join("libitemdex.so")).unwrap();
        for header in fs::read_dir(here("include")).unwrap().map(Result::unwrap) {
            fs::copy(header.path(), include.join(header.file_name())).unwrap();
        }
        let version = env!("CARGO_PKG_VERSION");
        let (lib, include) = (lib.display(), include.display());
        let file = format!(
            "Name: itemdex\nDescription: an item index\nVersion: {version}\nLibs: -L{lib} -litemdex\n\
             Cflags: -I{include}\n"
        );
        fs::write(installed.at("lib/pkgconfig/itemdex.pc"), file).unwrap();
        installed
    }

    fn at(&self, path: &str) -> PathBuf {
        self.prefix.path().join(path)
    }

    /// A command that finds the library, to compile and to run.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PKG_CONFIG_PATH", self.at("lib/pkgconfig")).env("LD_LIBRARY_PATH", self.at("lib"));
        command.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
        command
    }

    /// Compiles a program with all warnings as errors, and returns where it is.
    fn compile(&self, source: &Path) -> PathBuf {
        let program = self.at(source.file_stem().unwrap().to_str().unwrap());
        let compiler =
            if source.extension().is_some_and(|kind| kind == "c") { "cc -std=c11" } else { "c++ -std=c++17" };
        let line = format!(
            "{compiler} -Wall -Wextra -Wconversion -pedantic -Werror -g '{}' -o '{}' \
             $(pkg-config --cflags --libs itemdex) -pthread",
            source.display(),
            program.display()
        );
        run(self.command("sh").args(["-c", &line]));
        program
    }

    /// Runs a program in a folder of its own, which is also its argument.
    fn run(&self, program: &mut Command) -> String {
        let folder = tempfile::tempdir_in(self.prefix.path()).unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        run(program.arg(folder.path()).current_dir(folder.path()))
    }
}

/// The first program of a language in docs/c.md.
fn in_the_guide(language: &str) -> String {
    let guide = fs::read_to_string(here("../../docs/c.md")).unwrap();
    let (_, rest) = guide.split_once(&format!("```{language}\n")).expect("a program of that language");
    rest.split("```").next().unwrap_or_default().to_owned()
}

#[test]
fn every_call_with_good_and_bad_arguments() {
    let installed = Installed::new();
    let program = installed.compile(&here("tests/calls.c"));
    assert_eq!(installed.run(&mut installed.command(program)), "every call did what it should\n");
}

#[test]
fn every_call_of_the_cpp_header() {
    let installed = Installed::new();
    let program = installed.compile(&here("tests/wrapper.cpp"));
    assert_eq!(installed.run(&mut installed.command(program)), "every call did what it should\n");
}

#[test]
fn the_examples_run() {
    let installed = Installed::new();
    let out = installed.at("");
    run(installed.command("make").arg("-C").arg(here("examples")).arg(format!("OUT={}", out.display())));
    for program in ["serve_c", "serve_cpp"] {
        let said = installed.run(&mut installed.command(out.join(program)));
        assert!(said.starts_with("published generation 1\n"), "{said}");
        assert!(said.contains("item 7 scores") && said.contains(", uploaded today"), "{said}");
    }
}

#[test]
fn the_programs_of_the_guide_run() {
    let installed = Installed::new();
    for language in ["c", "cpp"] {
        let source = installed.at(&format!("guide_{language}.{language}"));
        fs::write(&source, in_the_guide(language)).unwrap();
        let program = installed.compile(&source);
        let said = installed.run(&mut installed.command(program));
        assert!(said.starts_with("item "), "{language}: {said}");
    }
}

#[test]
fn the_go_program_of_the_guide_runs() {
    if Command::new("go").arg("version").output().is_err() {
        eprintln!("there is no Go here: not run");
        return;
    }
    let installed = Installed::new();
    let folder = installed.at("go");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("go.mod"), "module example\n").unwrap();
    fs::write(folder.join("main.go"), in_the_guide("go")).unwrap();
    let mut build = installed.command("go");
    run(build
        .args(["build", "-o", "program", "."])
        .current_dir(&folder)
        .env("GOCACHE", installed.at("cache")));
    let said = installed.run(&mut installed.command(folder.join("program")));
    assert!(said.starts_with("item "), "{said}");
}

/// A JDK of 22 or newer: the one of JAVA_HOME or in the path.
fn java() -> Option<PathBuf> {
    let homes = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let new_enough = |java: &PathBuf| {
        let Ok(output) = Command::new(java).arg("--version").output() else { return false };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version =
            said.split_whitespace().nth(1).and_then(|version| version.split('.').next()?.parse().ok());
        version.is_some_and(|version: u32| version >= 22)
    };
    homes.into_iter().chain(["java".into()]).find(new_enough)
}

#[test]
fn the_java_program_of_the_guide_runs() {
    let Some(java) = java() else {
        eprintln!("there is no JDK of 22 or newer here: not run");
        return;
    };
    let installed = Installed::new();
    let source = installed.at("Example.java");
    fs::write(&source, in_the_guide("java")).unwrap();
    let mut command = installed.command(java);
    let said = installed.run(command.arg("--enable-native-access=ALL-UNNAMED").arg(&source));
    assert!(said.starts_with("item "), "{said}");
}
