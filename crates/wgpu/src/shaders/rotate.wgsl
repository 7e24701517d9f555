// Turns the pairs of the head in `head` by their angles at a position.

// Values of a head that turn, none for no rotation, and the first of them.
override n_dims: u32;
override rope_offset: u32;
override interleaved: bool;

// (cos, sin) per pair for the four bytes of a position; see `rope.rs`.
@group(0) @binding(0) var<storage, read> angles: array<vec2<f32>>;

// The angle of sum of two angles given by cosine and sine.
fn turn(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

fn angle(at_position: u32, pair: u32) -> vec2<f32> {
    let n_pairs = n_dims / 2u;
    var result = angles[(at_position & 255u) * n_pairs + pair];
    for (var byte = 1u; byte < 4u; byte++) {
        let value = (at_position >> (8u * byte)) & 255u;
        result = turn(angles[(256u * byte + value) * n_pairs + pair], result);
    }
    return result;
}

// To be followed by a barrier.
fn rotate(at_position: u32, thread: u32) {
    for (var pair = thread; pair < n_dims / 2u; pair += THREADS) {
        let first = rope_offset + select(pair, 2u * pair, interleaved);
        let second = rope_offset + select(pair + n_dims / 2u, 2u * pair + 1u, interleaved);
        let turned = turn(vec2<f32>(head[first], head[second]), angle(at_position, pair));
        head[first] = turned.x;
        head[second] = turned.y;
    }
}
