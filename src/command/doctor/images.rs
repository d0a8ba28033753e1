//! What is wrong with an image: what it starts on each of its platforms, judged as any program is.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::image::{self, Image};
use super::place::Place;
use super::program;
use super::subject::{Looker, Subject};
use crate::arch::ARCHES;
use crate::check::{Finding, Result, advice, failure, ok, unknown, warning};
use crate::command::Context;
use crate::error::Error;
use crate::shown::plain;
use crate::state::State;

/// Id of what is found of an image as a whole.
pub(super) const ID: &str = "image";

/// Looks at what each image in a file starts, or at one program of it.
///
/// # Errors
/// Where it is no image.
pub(super) fn judge(
    context: &Context<'_>,
    state: &State,
    file: &Path,
    program: Option<&Path>,
    environment: &Environment,
) -> std::result::Result<Vec<Finding>, Error> {
    let images = image::read(file).map_err(|why| {
        // Part of it may be what is in the file.
        let what = format!("--image {} cannot be looked into: {}", file.display(), plain(&why));
        let hint = "it takes a file, as `docker save -o FILE IMAGE` writes it, or an OCI layout"
            .to_owned();
        Error::Unclear { what, hint }
    })?;
    let mut findings = Vec::new();
    if images.iter().all(|image| !image.here) {
        let words = "save it again, with --platform where several are wanted";
        let nothing = failure(
            "none of the images that it names is in this file",
            "it cannot be loaded",
            advice(words),
        );
        findings.extend(nothing.into_iter().map(|result| result.called(ID)));
    }
    for image in images {
        let (told, place) = open(file, &image);
        findings.extend(told.into_iter().map(|result| result.called(ID)));
        let Some(place) = place else { continue };
        let looker = Looker { root: context.root, place: &place, state, environment };
        let programs =
            program.map_or_else(|| started(&place, &image), |program| vec![program.into()]);
        for program in programs {
            let chain = looker.chain(&place.find(&program));
            let told = other_platform(&image, &chain).into_iter().map(|result| result.called(ID));
            findings.extend(told);
            findings.extend(program::judge(&chain));
        }
    }
    findings.iter_mut().for_each(for_dockerfile);
    Ok(findings)
}

/// What an image is, and its files.
fn open(file: &Path, image: &Image) -> (Vec<Result>, Option<Place>) {
    let platform = &image.platform;
    let called = image.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    if !image.here {
        return (ok(format!("{platform}{called}: named, but not in this file")), None);
    }
    if !platform.starts_with("linux/") {
        let what = format!(
            "{platform}{called}: it is for another system than Linux, and was not looked into"
        );
        return (unknown(what), None);
    }
    let files = match image.files() {
        Ok(files) => files,
        Err(why) => {
            let words = "save it again, or pull it again before: a download or a disk cut it short";
            let effect = "the image cannot be loaded, or programs in it are missing";
            return (failure(format!("{platform}{called}: {why}"), effect, advice(words)), None);
        }
    };
    let place = Place::of_image(file, files, image.environment.clone());
    let told = if image.command.is_empty() {
        let words = "give it an ENTRYPOINT or a CMD, or name a command when it is started";
        warning(
            format!("{platform}{called}: it says nothing to start"),
            "No command specified",
            advice(words),
        )
    } else {
        ok(format!("{platform}{called}: it starts {}", image.command.join(" ")))
    };
    (told, Some(place))
}

/// The programs that an image starts: its entry point, and what that hands to a shell, as far as it is plain.
fn started(place: &Place, image: &Image) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    let path = |word: &str| match word.contains('/') {
        true => Path::new(&image.directory).join(word),
        false => PathBuf::from(word),
    };
    programs.extend(image.command.first().map(|word| path(word)));
    if let [shell, option, line, ..] = image.command.as_slice()
        && shell.ends_with("sh")
        && option.ends_with('c')
    {
        let mut words =
            line.split_whitespace().filter(|word| *word != "exec" && !word.contains('='));
        let word = words.next().map(path);
        programs.extend(word.filter(|word| place.has(&place.find(word))));
    }
    programs
}

/// What is started is for another architecture than the image says.
fn other_platform(image: &Image, chain: &[Subject<'_>]) -> Vec<Result> {
    let program = chain.iter().rev().find_map(Subject::program);
    let says = ARCHES.iter().find(|arch| arch.oci == image.arch);
    let (Some(says), Some(is)) = (says, program.and_then(|program| program.arch)) else {
        return Vec::new();
    };
    // Programs of 32 bits are at home in images of 64.
    let beside = [("amd64", "386"), ("arm64", "arm")].contains(&(says.oci, is.oci));
    if says == is || beside {
        return Vec::new();
    }
    let words = format!(
        "build it for its platform: docker build --platform {}, from a base image and with programs of that platform",
        image.platform
    );
    failure(
        format!("it says {}, but what it starts is for {is}", image.platform),
        "exec format error, or a program that is emulated without need",
        advice(words),
    )
}

/// In an image, commands that repair stand in its Dockerfile.
fn for_dockerfile(finding: &mut Finding) {
    let Some(command) = finding.way.repair.take_if(|command| !command.starts_with("binfmtctl "))
    else {
        return;
    };
    let line = match command.strip_prefix("export ") {
        Some(variable) => format!("ENV {variable}"),
        None => format!("RUN {command}"),
    };
    let more = finding.way.advice.take().map_or(String::new(), |words| format!("; {words}"));
    finding.way.advice = Some(format!("in its Dockerfile: {line}{more}"));
}
