//! What must hold for any executor, shown on the oracle, and values worked out by hand.

use realm_gguf::TensorType;
use realm_ir::{
    Attend, KvLayer, KvLayout, KvType, Program, RopeSpec, RopeStore, RopeStyle, Rows, Session,
    SessionConfig, Slot, SlotInfo, Step,
};
use realm_testkit::compare::assert_close;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Decoder, Model, Size, read};

fn every_option() -> Decoder {
    Decoder {
        ty: TensorType::Q4_K,
        head_norm: true,
        bias: true,
        post_norms: true,
        rope: Some(RopeStyle::Halves),
        rope_dims: 16,
        window: Some(3),
        softcap: Some(5.0),
        ..Decoder::default()
    }
}

#[test]
fn prefill_and_single_steps_in_scattered_pages_give_the_same_logits() {
    for decoder in [Decoder::default(), every_option()] {
        let model = decoder.build();
        let tokens = [5, 9, 60, 1, 2, 33, 7];
        let mut whole = model.open(&NaiveBackend, Size::default()).unwrap();
        let wanted = Call::one(&tokens, 0, &[0, 1]).logits(&model, &mut *whole).unwrap();

        let mut steps = model.open(&NaiveBackend, Size::default()).unwrap();
        let mut got = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            let call = Call::one(&[*token], position as u32, &[11, 3]);
            got.extend(call.logits(&model, &mut *steps).unwrap());
        }
        assert_close("token by token", &got, &wanted, 1e-6);
    }
}

#[test]
fn a_copied_page_continues_like_the_original() {
    let model = Decoder::default().build();
    let mut session = model.open(&NaiveBackend, Size::default()).unwrap();
    Call::one(&[1, 2, 3], 0, &[0]).logits(&model, &mut *session).unwrap();
    session.copy_page(0, 7).unwrap();
    let wanted = Call::one(&[4], 3, &[0]).logits(&model, &mut *session).unwrap();
    let got = Call::one(&[4], 3, &[7]).logits(&model, &mut *session).unwrap();
    assert_eq!(got, wanted);
    assert!(session.copy_page(0, 16).unwrap_err().to_string().contains("16"));
}

#[test]
fn f16_and_q8_0_caches_change_logits_a_little() {
    let model = Decoder::default().build();
    let call = Call::one(&[1, 2, 3, 4], 0, &[0]);
    let logits = |kv_type| {
        let size = Size { kv_type, ..Size::default() };
        let mut session = model.open(&NaiveBackend, size).unwrap();
        call.logits(&model, &mut *session).unwrap()
    };
    let (wanted, got) = (logits(KvType::F32), logits(KvType::F16));
    assert_ne!(got, wanted);
    assert_close("f16 cache", &got, &wanted, 0.1);
    let q8_0 = logits(KvType::Q8_0);
    assert_ne!(q8_0, got);
    assert_close("q8_0 cache", &q8_0, &wanted, 0.3);
}

/// One head of four values, one layer: rotate, store, attend.
fn attention(rope: Option<RopeSpec>, attend: Attend) -> (Model, Box<dyn Session>) {
    let slot = SlotInfo { width: 4, rows: Rows::Batch };
    let store = RopeStore {
        q: Slot(0),
        k: Slot(1),
        v: Slot(2),
        kv_layer: 0,
        n_heads: 1,
        head_norm: None,
        rope,
        temperature: None,
    };
    let model = Model {
        program: Program {
            slots: vec![slot, slot, slot, slot, SlotInfo { rows: Rows::Outputs, ..slot }],
            weights: vec![],
            segments: vec![vec![Step::RopeStore(store)], vec![Step::Attend(attend)]],
            hidden: Slot(0),
            carried: vec![],
            logits: Slot(4),
        }
        .into(),
        kv_layers: vec![KvLayer { n_kv_heads: 1, key_width: 4, value_width: 4 }],
    };
    let layers = model.kv_layers.clone();
    let kv = KvLayout { layers, page_tokens: 2, n_pages: 4, ty: KvType::F32 };
    let config = SessionConfig {
        kv,
        states: Default::default(),
        max_rows: 4,
        max_outputs: 4,
        layout: Default::default(),
    };
    let backend: &dyn realm_ir::Backend = &NaiveBackend;
    let session = backend.session(model.program.clone(), [].into(), config).unwrap();
    (model, session)
}

const ATTEND: Attend = Attend {
    q: Slot(0),
    out: Slot(3),
    kv_layer: 0,
    n_heads: 1,
    scale: 1.0,
    window: None,
    chunked: false,
    softcap: None,
    sinks: None,
    alibi_max_bias: None,
    causal: true,
};

#[test]
fn the_two_rope_styles_turn_the_pairs_they_name() {
    let quarter = std::f32::consts::FRAC_PI_2;
    for (style, wanted) in [
        (RopeStyle::Interleaved, [-2.0, 1.0, 3.0, 4.0]),
        (RopeStyle::Halves, [-3.0, 2.0, 1.0, 4.0]),
    ] {
        let rope = RopeSpec {
            style,
            inverse_frequencies: [quarter, 0.0].into(),
            magnitude: 1.0,
            offset: 0,
        };
        let (model, mut session) = attention(Some(rope), ATTEND);
        session.write(Slot(0), &[1.0, 2.0, 3.0, 4.0]).unwrap();
        Call::one(&[0], 1, &[0]).run(&mut *session, 0..1).unwrap();
        let got = read(&model, &mut *session, Slot(0), 1).unwrap();
        assert_close(&format!("{style:?}"), &got, &wanted, 1e-6);
    }
}

#[test]
fn equal_keys_average_the_values_that_the_mask_lets_through() {
    let values = [[1.0; 4], [2.0; 4], [6.0; 4]].concat();
    let cases = [
        ("causal", ATTEND, [1.0, 1.5, 3.0]),
        ("window", Attend { window: Some(2), ..ATTEND }, [1.0, 1.5, 4.0]),
        ("encoder", Attend { causal: false, ..ATTEND }, [3.0, 3.0, 3.0]),
    ];
    for (name, attend, wanted) in cases {
        let (model, mut session) = attention(None, attend);
        session.write(Slot(2), &values).unwrap();
        Call::one(&[0, 0, 0], 0, &[3, 1]).run(&mut *session, 0..2).unwrap();
        let got = read(&model, &mut *session, Slot(3), 3).unwrap();
        assert_close(name, &got, &wanted.map(|value| [value; 4]).concat(), 1e-6);
    }
}
