#include "backend/gpu/persistent/token_plan.h"

#include <algorithm>
#include <array>
#include <span>

#include "backend/gpu/persistent/row_tiles.h"
#include "base/error.h"

namespace gander::gpu {
namespace {

// Longer pieces cost the ring slots, shorter ones instructions.
constexpr std::uint32_t kMostPieceBytes = 3072;
constexpr std::uint32_t kWantedSlots = 4;
constexpr std::uint32_t kMostSlots = GANDER_TOKEN_MAX_SLOTS;

std::uint32_t offset_of(const Placed& placed) {
  return static_cast<std::uint32_t>(placed.offset / 16);
}

// A stage's matrix, cut into items and pieces; `segment` is what all its runs of items share.
struct Stream {
  const Placed* placed = nullptr;
  Segment segment = {};
  std::uint32_t item_rows = 1;
  std::uint32_t item_bytes = 0;   // a multiple of 16
  std::uint32_t piece_bytes = 0;  // of all pieces of an item but the last

  bool tiled() const { return item_rows > 1; }
};

Stream make_stream(const Placed& placed, std::uint32_t role, std::uint32_t stage,
                   std::uint32_t most_bytes) {
  const Matrix& matrix = placed.matrix;
  const std::uint32_t row_blocks = matrix.columns / kTileColumns;
  Segment segment = {};
  segment.type = static_cast<std::uint32_t>(matrix.type);
  segment.role = role;
  segment.stage = stage;
  segment.row_blocks = row_blocks;
  segment.piece_blocks = row_blocks;
  if (placed.form == Placed::Form::Tiles) {
    const std::uint32_t bytes = tile_bytes(matrix.type);
    segment.items = (matrix.rows + kTileRows - 1) / kTileRows;
    return {&placed, segment, kTileRows, row_blocks * bytes, bytes};
  }
  const auto row_bytes = static_cast<std::uint32_t>(matrix.row_size());
  const std::uint32_t block_bytes = row_bytes / row_blocks;
  if (row_bytes > most_bytes) {
    const std::uint32_t most = std::max(most_bytes / block_bytes, 1U);
    const std::uint32_t pieces = (row_blocks + most - 1) / most;
    segment.piece_blocks = (row_blocks + pieces - 1) / pieces;
  }
  segment.items = matrix.rows;
  return {&placed, segment, 1, row_bytes, segment.piece_blocks * block_bytes};
}

// The matrices that layers stream, stage by stage, and the head.
std::vector<std::vector<Stream>> make_streams(const TokenWeights& weights, std::uint32_t most) {
  std::vector<std::vector<Stream>> stages;
  std::uint32_t stage = 0;
  const auto add = [&](const Placed& placed, std::uint32_t role) {
    if (placed.matrix.rows > 0) stages.back().push_back(make_stream(placed, role, stage, most));
  };
  for (const PlacedLayer& layer : weights.layers) {
    stages.emplace_back();
    // The first blocks have the heads, whose weights they begin to load when their rows are done:
    // low-rank rows are done first.
    add(layer.w1, GANDER_ROLE_W1);
    add(layer.a1, GANDER_ROLE_A1);
    add(layer.v1, GANDER_ROLE_V1);
    add(layer.g1, GANDER_ROLE_G1);
    add(layer.receptance, GANDER_ROLE_RECEPTANCE);
    add(layer.key, GANDER_ROLE_KEY);
    add(layer.value, GANDER_ROLE_VALUE);
    stages.emplace_back();
    stage += 2;  // past the heads
    add(layer.output, GANDER_ROLE_OUTPUT);
    stages.emplace_back();
    ++stage;
    add(layer.ffn_key, GANDER_ROLE_FFN_KEY);
    stage += 2;  // past ffn value
  }
  stages.emplace_back();
  add(weights.head, GANDER_ROLE_HEAD);
  return stages;
}

// What a block multiplies, what its warps copy, and whose turn it is.
struct Share {
  std::vector<Segment> segments;
  std::array<std::vector<Piece>, GANDER_TOKEN_WARPS> pieces;
  std::uint32_t rows = 0;  // of floats
};

void add_piece(const Stream& stream, std::uint64_t at, std::uint32_t bytes, std::size_t warp,
               Share& share) {
  share.pieces[warp].push_back(
      {static_cast<std::uint32_t>((stream.placed->offset + at) / 16), bytes});
}

// Gives tiles `begin` to `end` - 1 of the stream to the block: of at most GANDER_TOKEN_MAX_ITEMS
// items.
void give_tiles(const Stream& stream, std::uint32_t begin, std::uint32_t end, Share& share) {
  const std::uint32_t row_blocks = stream.segment.row_blocks;
  const std::uint32_t first = begin / row_blocks;
  const std::uint32_t last = (end + row_blocks - 1) / row_blocks;
  Segment segment = stream.segment;
  segment.items = last - first;
  segment.tiles = end - begin;
  segment.first_tile = begin % row_blocks;
  segment.first_row = first * kTileRows;
  segment.rows = std::min(last * kTileRows, stream.placed->matrix.rows) - segment.first_row;
  share.segments.push_back(segment);
  // first_tile() in kernels/persistent/rows.h
  std::uint32_t tile = begin;
  for (std::uint32_t warp = 0; warp < GANDER_TOKEN_WARPS; ++warp) {
    const std::uint32_t longer = warp < segment.tiles % GANDER_TOKEN_WARPS ? 1 : 0;
    const std::uint32_t run_end = tile + segment.tiles / GANDER_TOKEN_WARPS + longer;
    for (; tile < run_end; ++tile) {
      add_piece(stream, std::uint64_t{tile} * stream.piece_bytes, stream.piece_bytes, warp, share);
    }
  }
}

// Gives rows of floats to the block. They count on, so that a block with few in each stage still
// keeps its warps busy.
void give_rows(const Stream& stream, std::uint32_t begin, std::uint32_t end, Share& share) {
  Segment segment = stream.segment;
  segment.items = segment.rows = end - begin;
  segment.first_row = begin;
  segment.first_warp = share.rows % GANDER_TOKEN_WARPS;
  share.segments.push_back(segment);
  for (std::uint32_t row = begin; row < end; ++row, ++share.rows) {
    for (std::uint32_t part = 0; part < stream.item_bytes; part += stream.piece_bytes) {
      add_piece(stream, std::uint64_t{row} * stream.item_bytes + part,
                std::min(stream.piece_bytes, stream.item_bytes - part),
                share.rows % GANDER_TOKEN_WARPS, share);
    }
  }
}

// Gives items `begin` to `end` - 1 of the stream to the block.
void give(const Stream& stream, std::uint32_t begin, std::uint32_t end, Share& share) {
  if (begin >= end) return;
  if (!stream.tiled()) {
    give_rows(stream, begin, end, share);
    return;
  }
  const std::uint32_t row_blocks = stream.segment.row_blocks;
  for (; begin < end; begin += GANDER_TOKEN_MAX_ITEMS) {
    const std::uint32_t most = std::min(end, begin + GANDER_TOKEN_MAX_ITEMS);
    give_tiles(stream, begin * row_blocks, most * row_blocks, share);
  }
}

// What a warp has to do for `items` items of a block, in instructions: a tile takes about 190, 256
// columns of a row of floats 40. Warps of tiles share a row, rows of floats have one warp each.
double work_of(const Stream& stream, std::uint32_t items) {
  const std::uint32_t row_blocks = stream.segment.row_blocks;
  if (stream.tiled()) return 190.0 * items * row_blocks / GANDER_TOKEN_WARPS;
  const std::uint32_t rows = (items + GANDER_TOKEN_WARPS - 1) / GANDER_TOKEN_WARPS;
  return 40.0 * rows * row_blocks;
}

// Blocks for each of the streams, at least one: the next one always goes where a block has most.
std::vector<std::uint32_t> blocks_for(std::span<const Stream> stage, std::uint32_t blocks) {
  std::vector<std::uint32_t> counts(stage.size(), 1);
  for (auto left = blocks - static_cast<std::uint32_t>(stage.size()); left > 0; --left) {
    std::size_t most = 0;
    const auto share = [&](std::size_t i) {
      return work_of(stage[i], (stage[i].segment.items + counts[i] - 1) / counts[i]);
    };
    for (std::size_t i = 1; i < stage.size(); ++i) {
      if (share(i) > share(most)) most = i;
    }
    ++counts[most];
  }
  return counts;
}

// The first of `items` that block k of `count` has. The last block has none more than it must: it
// keeps vectors for the next token meanwhile.
std::uint32_t first_of(std::uint64_t items, std::uint64_t k, std::uint64_t count, bool last) {
  const std::uint64_t less = last && count > 1 ? items / count : 0;
  if (k == count) return static_cast<std::uint32_t>(items);
  return static_cast<std::uint32_t>((items - less) * k / (less > 0 ? count - 1 : count));
}

// Each block has rows of one matrix: it prepares one vector.
void deal_out_matrices(std::span<const Stream> stage, std::span<Share> shares) {
  const std::vector<std::uint32_t> counts =
      blocks_for(stage, static_cast<std::uint32_t>(shares.size()));
  std::size_t first = 0;
  for (std::size_t i = 0; i < stage.size(); ++i) {
    const std::uint64_t items = stage[i].segment.items;
    const bool last = i + 1 == stage.size();
    for (std::uint32_t k = 0; k < counts[i]; ++k) {
      give(stage[i], first_of(items, k, counts[i], last), first_of(items, k + 1, counts[i], last),
           shares[first + k]);
    }
    first += counts[i];
  }
}

// What is added to x may be added by several blocks: tiles of the output matrix, as even as can be.
void deal_out_tiles(const Stream& stream, std::span<Share> shares) {
  const std::uint64_t tiles = std::uint64_t{stream.segment.items} * stream.segment.row_blocks;
  for (std::size_t block = 0; block < shares.size(); ++block) {
    const auto begin = static_cast<std::uint32_t>(tiles * block / shares.size());
    const auto end = static_cast<std::uint32_t>(tiles * (block + 1) / shares.size());
    const std::uint32_t most = (GANDER_TOKEN_MAX_ITEMS - 1) * stream.segment.row_blocks;
    for (std::uint32_t at = begin; at < end; at += most) {
      give_tiles(stream, at, std::min(end, at + most), shares[block]);
    }
  }
}

void deal_out(std::span<const Stream> stage, std::span<Share> shares) {
  if (stage.front().segment.role == GANDER_ROLE_OUTPUT && stage.front().tiled()) {
    deal_out_tiles(stage.front(), shares);
  } else {
    deal_out_matrices(stage, shares);
  }
}

LayerPlan plan_layer(const PlacedLayer& layer) {
  LayerPlan plan = {};
  plan.ln1 = offset_of(layer.ln1);
  plan.mix = offset_of(layer.mix);
  plan.vectors = offset_of(layer.vectors);
  plan.ln2 = offset_of(layer.ln2);
  plan.ffn_mix = offset_of(layer.ffn_mix);
  plan.w2 = offset_of(layer.w2);
  plan.a2 = offset_of(layer.a2);
  plan.v2 = offset_of(layer.v2);
  plan.g2 = offset_of(layer.g2);
  plan.type_w2 = static_cast<std::uint32_t>(layer.w2.type());
  plan.type_a2 = static_cast<std::uint32_t>(layer.a2.type());
  plan.type_v2 = static_cast<std::uint32_t>(layer.v2.type());
  plan.type_g2 = static_cast<std::uint32_t>(layer.g2.type());
  plan.value = offset_of(layer.ffn_value);
  plan.type_value = static_cast<std::uint32_t>(layer.ffn_value.matrix.type);
  return plan;
}

// What a stage has behind the ring: a vector in either form, the sums of stage E's warps, or what a
// head needs.
std::uint32_t vector_bytes(const Config& config) {
  const std::uint32_t floats = 4 * config.width;
  const std::uint32_t integers = 2 * config.width + config.width / 4;
  const std::uint32_t sums = GANDER_TOKEN_WARPS * GANDER_VALUE_TILE * 4;
  const auto head = static_cast<std::uint32_t>(4 * (10 * config.head_size + config.ranks()));
  return (std::max({floats, integers, sums, head}) + 15) / 16 * 16;
}

}  // namespace

TokenPlan plan_token(const Config& config, const TokenWeights& weights, const DeviceInfo& info) {
  const std::uint32_t blocks = info.resident_groups;
  TokenPlan plan;
  plan.parameters.vector_bytes = vector_bytes(config);
  // Segments are one for each of a layer's three stages that stream, more where a matrix has many
  // rows for few blocks: room for two each.
  const std::uint32_t fixed = plan.parameters.vector_bytes + 16 * GANDER_TOKEN_WARPS +
                              64 * (GANDER_TOKEN_WARPS + GANDER_TOKEN_MAX_ITEMS) +
                              8 * GANDER_TOKEN_WARPS * GANDER_TOKEN_MAX_SLOTS +
                              2 * static_cast<std::uint32_t>(sizeof(LayerPlan)) + 16;
  const std::uint32_t guess =
      fixed + 6 * config.layers * static_cast<std::uint32_t>(sizeof(Segment));
  const std::uint32_t per_warp =
      info.max_group_memory > guess ? (info.max_group_memory - guess) / GANDER_TOKEN_WARPS : 0;
  // Rows of floats beside tiles come in pieces no longer than those.
  const std::uint32_t tile = tile_bytes(weights.layers.back().ffn_key.matrix.type);
  const std::uint32_t most = tile > 0 ? std::min(tile, kMostPieceBytes) : kMostPieceBytes;
  const auto stages = make_streams(weights, std::min(per_warp / kWantedSlots, most));

  std::vector<Share> shares(blocks);
  std::vector<BlockPlan> ends(blocks);  // how far the layers go in each share
  for (const std::vector<Stream>& stage : stages) {
    if (&stage == &stages.back()) {
      for (std::size_t i = 0; i < blocks; ++i) {
        ends[i].head_segments = static_cast<std::uint32_t>(shares[i].segments.size());
        for (std::size_t warp = 0; warp < GANDER_TOKEN_WARPS; ++warp) {
          ends[i].head_pieces[warp] = static_cast<std::uint32_t>(shares[i].pieces[warp].size());
        }
      }
    }
    deal_out(stage, shares);
    for (const Stream& stream : stage) {
      plan.parameters.slot_bytes = std::max(plan.parameters.slot_bytes, stream.piece_bytes);
      plan.weight_types |= 1U << stream.segment.type;
    }
  }
  std::size_t most_segments = 0;
  for (std::size_t i = 0; i < blocks; ++i) {
    BlockPlan block = ends[i];
    block.segments = static_cast<std::uint32_t>(plan.segments.size());
    block.head_segments += block.segments;
    plan.segments.insert(plan.segments.end(), shares[i].segments.begin(), shares[i].segments.end());
    most_segments = std::max(most_segments, shares[i].segments.size());
    block.end_segments = static_cast<std::uint32_t>(plan.segments.size());
    for (std::size_t warp = 0; warp < GANDER_TOKEN_WARPS; ++warp) {
      block.pieces[warp] = static_cast<std::uint32_t>(plan.pieces.size());
      block.head_pieces[warp] += block.pieces[warp];
      const std::vector<Piece>& pieces = shares[i].pieces[warp];
      plan.pieces.insert(plan.pieces.end(), pieces.begin(), pieces.end());
      block.end_pieces[warp] = static_cast<std::uint32_t>(plan.pieces.size());
    }
    plan.blocks.push_back(block);
  }

  const std::uint32_t other =
      (fixed + static_cast<std::uint32_t>(most_segments * sizeof(Segment)) + 15) / 16 * 16;
  const std::uint32_t slot = GANDER_TOKEN_WARPS * plan.parameters.slot_bytes;
  const std::uint32_t slots = info.max_group_memory > other
                                  ? std::min((info.max_group_memory - other) / slot, kMostSlots)
                                  : 0;
  if (slots < 2) {
    fail("{} has {} bytes of group memory: this model's token kernel needs {}", info.name,
         info.max_group_memory, other + 2 * slot);
  }
  plan.ring_slots = slots;
  plan.group_memory = other + slots * slot;
  for (const PlacedLayer& layer : weights.layers) {
    plan.layers.push_back(plan_layer(layer));
    for (const Placed* placed : {&layer.w2, &layer.a2, &layer.v2, &layer.g2}) {
      if (placed->matrix.rows > 0) {
        plan.weight_types |= 1U << static_cast<std::uint32_t>(placed->type());
      }
    }
    plan.weight_types |= 1U << (GANDER_VALUE_TYPES + plan.layers.back().type_value);
  }
  plan.parameters.layers = config.layers;
  LayerPlan head = {};
  head.ln1 = offset_of(weights.ln_out);
  plan.layers.push_back(head);
  // Addends of a channel are counted in 12 bits.
  const std::uint32_t most_slices =
      std::min(config.ffn_width / 32, 4095 / config.layers - config.width / kTileColumns);
  const std::uint32_t slices =
      std::clamp(blocks / (config.width / GANDER_VALUE_TILE), 1U, most_slices);
  const std::uint32_t units = ((config.ffn_width + slices - 1) / slices + 31) / 32 * 32;
  plan.parameters.value_slices = (config.ffn_width + units - 1) / units;  // none is empty
  return plan;
}

}  // namespace gander::gpu
