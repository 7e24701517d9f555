//! Whole models at every level of this processor: which give the same logits to the bit. On
//! x86-64 and on ARM all do, whatever their weights and cache are stored as.

use realm_cpu::{CpuBackend, CpuOptions, Level};
use realm_gguf::TensorType;
use realm_ir::{Activation, KvType, NormKind};
use realm_testkit::program::{Call, Decoder, Size};

/// Positions of a prompt, more than are attended to at once.
const N_PROMPT: u32 = 150;
const PAGE_TOKENS: usize = 32;

/// Logits of a prompt and of three tokens behind it, by their bits.
fn logits(level: Level, decoder: &Decoder, kv_type: KvType) -> Vec<u32> {
    let backend = CpuBackend::new(CpuOptions { threads: Some(2), level: Some(level) }).unwrap();
    assert_eq!(backend.level(), level);
    let size = Size {
        kv_type,
        page_tokens: PAGE_TOKENS,
        n_pages: 8,
        max_rows: N_PROMPT as usize,
        max_outputs: N_PROMPT as usize,
        ..Size::default()
    };
    let model = decoder.build();
    let mut session = model.open(&backend, size).unwrap();
    let pages = [5, 0, 7, 2, 3];
    let prompt: Vec<u32> = (0..N_PROMPT).map(|i| i * 7 % 64).collect();
    let mut all = Call::one(&prompt, 0, &pages).logits(&model, &mut *session).unwrap();
    for position in N_PROMPT..N_PROMPT + 3 {
        let call = Call::one(&[position % 64], position, &pages);
        all.extend(call.logits(&model, &mut *session).unwrap());
    }
    assert!(all.iter().all(|value| value.is_finite()));
    all.iter().map(|value| value.to_bits()).collect()
}

/// Levels whose logits are not those of plain code, by their names.
fn different(decoder: &Decoder, kv_type: KvType) -> Vec<&'static str> {
    let plain = logits(Level::SCALAR, decoder, kv_type);
    let differs = |level: &Level| logits(*level, decoder, kv_type) != plain;
    Level::available().filter(differs).map(Level::name).collect()
}

/// A small decoder with matrices of a type.
fn of_type(ty: TensorType) -> Decoder {
    Decoder { ty, embedding_ty: ty, n_layers: 1, ..Decoder::default() }
}

#[test]
fn models_of_every_quantised_type_give_the_same_bits_at_every_level() {
    for ty in realm_testkit::random::block_types() {
        assert_eq!(different(&of_type(ty), KvType::F16), [""; 0], "{ty}");
    }
}

#[test]
fn models_of_float_weights_give_the_same_bits_at_every_level() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            assert_eq!(different(&of_type(ty), kv_type), [""; 0], "{ty}, {kv_type:?}");
        }
    }
}

#[test]
fn other_options_of_decoders_give_the_same_bits_at_every_level() {
    let base = of_type(TensorType::Q8_0);
    let odd_heads = Decoder {
        norm: NormKind::Layer,
        activation: Activation::GeluErf,
        n_heads: 9,
        n_kv_heads: 1,
        key_width: 48,
        value_width: 64,
        ..base.clone()
    };
    for decoder in base.variants().into_iter().chain([odd_heads]) {
        assert_eq!(different(&decoder, KvType::F16), [""; 0], "{decoder:?}");
    }
}
