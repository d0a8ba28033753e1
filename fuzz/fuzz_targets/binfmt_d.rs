#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(reader) = binfmtctl::fuzzing::reader("binfmt_d") {
        reader(bytes);
    }
});
