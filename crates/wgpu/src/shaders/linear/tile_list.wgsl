// A list of tiles: words before the tiles, words of a tile, choices of a tile at most.
const TILES_AT: u32 = 2u;
const TILE_WORDS: u32 = 3u;
const TILE_ROWS: u32 = 32u;
