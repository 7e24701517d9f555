//! A recurrent model as programs hold it: forks, and more sequences than states.

mod support;

use realm_engine::{GenerateOptions, LoadOptions, Prompt};
use realm_testkit::kit;
use support::*;

fn on(sequence: u32) -> GenerateOptions {
    GenerateOptions { sequence: Some(sequence), max_tokens: 3, ..endless() }
}

#[test]
fn every_fork_works_however_many_there_are() {
    let bytes = kit::read_maybe_gz("models/lfm2/model.gguf.gz");
    let (model, _) = load_bytes(bytes, &LoadOptions::default());
    let prompt = || Prompt::Tokens(vec![5, 9, 30, 1, 2, 31, 7]);
    let sequence = model.open_sequence().unwrap();
    let first = start(&model, prompt(), on(sequence)).end().unwrap();
    let forks: Vec<u32> = (0..70).map(|_| model.fork_sequence(sequence).unwrap()).collect();
    let longer = [vec![5, 9, 30, 1, 2, 31, 7], first.tokens, vec![8]].concat();
    let alone = {
        let (model, _) =
            load_bytes(kit::read_maybe_gz("models/lfm2/model.gguf.gz"), &LoadOptions::default());
        let options = GenerateOptions { max_tokens: 3, ..endless() };
        start(&model, Prompt::Tokens(longer.clone()), options).end().unwrap().tokens
    };
    let mut cached = Vec::new();
    for fork in &forks {
        let answer = start(&model, Prompt::Tokens(longer.clone()), on(*fork)).end().unwrap();
        assert_eq!(answer.tokens, alone);
        cached.push(answer.cached_tokens);
    }
    assert_eq!(cached[0], 9, "what the other had read is used again");
    assert_eq!(cached.last(), Some(&0), "there was no state for so many: it is read again");
    let others: Vec<_> =
        forks.iter().map(|fork| start(&model, Prompt::Tokens(longer.clone()), on(*fork))).collect();
    for running in others {
        assert_eq!(running.end().unwrap().tokens, alone);
    }
    let options = GenerateOptions { max_tokens: 2, ..endless() };
    assert_eq!(start(&model, prompt(), options).end().unwrap().tokens.len(), 2);
}
