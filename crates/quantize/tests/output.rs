//! Where the output is written, and what is left when that comes to no end.

mod common;

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::folder;
use realm_gguf::TensorType;
use realm_ir::Coded;
use realm_quantize::{Error, ErrorCode, Mix, QuantizeOptions, quantize};
use realm_testkit::gguf_writer::GgufWriter;

/// A file of one matrix, and another name for every part of it.
fn input(folder: &Path) -> PathBuf {
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", "llama").tensor_f32(
        "output.weight",
        &[64, 3],
        TensorType::F32,
        &[0.5; 192],
    );
    let path = folder.join("in.gguf");
    fs::write(&path, writer.to_bytes()).unwrap();
    for (i, bytes) in writer.to_split_bytes(1).iter().enumerate() {
        fs::write(folder.join(format!("part-{:05}-of-00001.gguf", i + 1)), bytes).unwrap();
    }
    path
}

fn run(input: &Path, output: &Path) -> Result<u64, Error> {
    let options = QuantizeOptions::new(Mix::Q8_0);
    let report = quantize(input, output, &options, |_| ControlFlow::Continue(()))?;
    Ok(report.output_bytes)
}

/// The names of what is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_no_regular_file_is_refused_and_stays() {
    let folder = folder("irregular");
    let input = input(&folder);
    fs::create_dir(folder.join("out")).unwrap();
    let mut outputs = vec![(folder.join("out"), "a directory"), (folder.join("new/"), "directory")];
    #[cfg(unix)]
    {
        let pipe = folder.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        outputs.push((pipe, "a pipe"));
        let socket = folder.join("socket");
        std::os::unix::net::UnixListener::bind(&socket).unwrap();
        outputs.push((socket, "a socket"));
        std::os::unix::fs::symlink("/dev/null", folder.join("link")).unwrap();
        outputs.push((folder.join("link"), "a device"));
    }
    let before = names(&folder);
    for (output, found) in outputs {
        let ty = fs::symlink_metadata(&output).ok().map(|metadata| metadata.file_type());
        let error = run(&input, &output).unwrap_err();
        assert_eq!(error.code(), ErrorCode::WriteFailed);
        let message = error.to_string();
        assert!(message.contains("not a regular file") && message.contains(found), "{message}");
        let after = fs::symlink_metadata(&output).ok().map(|metadata| metadata.file_type());
        assert_eq!(after, ty, "{}", output.display());
        assert_eq!(names(&folder), before);
    }
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_stays_and_the_file_behind_it_is_written() {
    use std::os::unix::fs::symlink;

    let folder = folder("links");
    let input = input(&folder);
    let bytes = |name: &str| fs::read(folder.join(name)).unwrap();
    run(&input, &folder.join("plain.gguf")).unwrap();
    fs::create_dir(folder.join("store")).unwrap();
    fs::write(folder.join("store/old.gguf"), b"before").unwrap();
    symlink("store/old.gguf", folder.join("one")).unwrap();
    symlink(folder.join("one"), folder.join("two")).unwrap();
    symlink("store/new.gguf", folder.join("dangling")).unwrap();
    for (link, file) in [("two", "store/old.gguf"), ("dangling", "store/new.gguf")] {
        run(&input, &folder.join(link)).unwrap();
        assert!(fs::symlink_metadata(folder.join(link)).unwrap().is_symlink());
        assert_eq!(bytes(file), bytes("plain.gguf"));
    }
    assert_eq!(names(&folder.join("store")), ["new.gguf", "old.gguf"]);

    symlink("round", folder.join("about")).unwrap();
    symlink("about", folder.join("round")).unwrap();
    assert_eq!(run(&input, &folder.join("round")).unwrap_err().code(), ErrorCode::WriteFailed);
    // Tools that walk over the build's folder need not find them.
    for link in ["about", "round"] {
        fs::remove_file(folder.join(link)).unwrap();
    }
    // What is read is not written through a link either.
    symlink("part-00001-of-00001.gguf", folder.join("part")).unwrap();
    let before = bytes("part-00001-of-00001.gguf");
    let error = run(&folder.join("part-00001-of-00001.gguf"), &folder.join("part")).unwrap_err();
    assert!(matches!(error, Error::SameFile { .. }), "{error}");
    assert_eq!(bytes("part-00001-of-00001.gguf"), before);
}

#[test]
fn what_a_run_left_that_was_ended_is_removed_by_the_next_one_and_nothing_else() {
    let folder = folder("abandoned");
    let input = input(&folder);
    let abandoned = folder.join("out.gguf.0123456789abcdef.partial");
    let written = folder.join("out.gguf.0123456789abcde0.partial");
    let others = [
        "out.gguf.partial",
        "out.gguf.0123456789abcde.partial",
        "out.gguf.0123456789abcdeg.partial",
        "other.gguf.0123456789abcdef.partial",
        "out.gguf.0123456789abcdef.partial.txt",
    ];
    others.iter().for_each(|name| fs::write(folder.join(name), b"mine").unwrap());
    fs::create_dir(folder.join("out.gguf.00000000000000ff.partial")).unwrap();
    fs::write(&abandoned, b"half").unwrap();
    let lock = File::create(&written).unwrap();
    lock.lock().unwrap();
    run(&input, &folder.join("out.gguf")).unwrap();
    assert!(!abandoned.exists());
    assert!(written.exists(), "somebody writes it");
    assert!(others.iter().all(|name| folder.join(name).exists()));
    drop(lock);
    run(&input, &folder.join("out.gguf")).unwrap();
    assert!(!written.exists());
    assert_eq!(names(&folder).len(), others.len() + 4, "{:?}", names(&folder));
}

#[test]
fn runs_to_one_output_leave_one_another_alone() {
    let folder = folder("together");
    let input = input(&folder);
    let output = folder.join("out.gguf");
    let expected = run(&input, &output).unwrap();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| run(&input, &output))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().unwrap(), expected);
        }
    });
    assert_eq!(fs::metadata(&output).unwrap().len(), expected);
    assert_eq!(names(&folder), ["in.gguf", "out.gguf", "part-00001-of-00001.gguf"]);
}

#[test]
fn a_run_is_unfinished_under_another_name() {
    let folder = folder("unfinished");
    let input = input(&folder);
    let output = folder.join("out.gguf");
    let options = QuantizeOptions::new(Mix::Q8_0);
    let mut during = Vec::new();
    quantize(&input, &output, &options, |_| {
        during = names(&folder);
        // Another one to the same output does not take it away.
        run(&input, &output).unwrap();
        ControlFlow::Continue(())
    })
    .unwrap();
    let unfinished = during.iter().filter(|name| name.ends_with(".partial")).count();
    assert_eq!(unfinished, 1, "{during:?}");
    assert!(names(&folder).iter().all(|name| !name.ends_with(".partial")));
}
