// The kernels for one instruction set. A .cpp file compiled with that set's flags includes this
// inside a namespace of its own name. Only raw pointers and code with internal linkage are used
// here: a template of the standard library instantiated with these flags could end up in other
// files.

constexpr std::size_t kRows = 4;  // rows of W decoded together
// Tokens that share a decoded weight in registers: kRows * kTokens sums of kParts registers must
// fit beside the operands.
constexpr std::size_t kTokens = kParts == 1 ? 4 : 1;

inline Floats activate(const Floats& y, Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::Tanh:
      return tanh_of(y);
    case Epilogue::Sigmoid:
      return sigmoid_of(y);
    case Epilogue::SquaredRelu: {
      const Floats positive = larger(y, 0.0F);
      return positive * positive;
    }
    default:
      return y;
  }
}

inline float activate(float y, Epilogue epilogue) {
  if (epilogue == Epilogue::Store || epilogue == Epilogue::Add) return y;
  return activate(fill(y), epilogue).part[0][0];
}

// sums[t][r] += weights[r] . x[t] over `count` columns for Tokens tokens and all rows. The sums
// stay in registers; each is a chain of its own, so its order does not depend on Rows or Tokens.
template <std::size_t Rows, std::size_t Tokens>
inline void accumulate(const float* weights, const float* x, std::size_t x_stride,
                       std::size_t count, float* sums) {
  Floats total[Tokens][Rows];
  for (std::size_t t = 0; t < Tokens; ++t) {
    for (std::size_t r = 0; r < Rows; ++r) total[t][r] = load(sums + (t * kRows + r) * kLanes);
  }
  for_lanes(count, [&](auto get, auto) {
    Floats w[Rows];
    for (std::size_t r = 0; r < Rows; ++r) w[r] = get(weights + r * kColumnBlock);
    for (std::size_t t = 0; t < Tokens; ++t) {
      const Floats value = get(x + t * x_stride);
      for (std::size_t r = 0; r < Rows; ++r) total[t][r] += w[r] * value;
    }
  });
  for (std::size_t t = 0; t < Tokens; ++t) {
    for (std::size_t r = 0; r < Rows; ++r) store(sums + (t * kRows + r) * kLanes, total[t][r]);
  }
}

// Rows rows of the product for all tokens. A block of columns of each row is decoded once into the
// scratch memory and used for every token; the sums wait in scratch between blocks.
template <std::size_t Rows>
void row_group(const MatrixProduct& p, std::size_t row, Epilogue epilogue) {
  float* weights = p.scratch;
  float* sums = p.scratch + kRows * kColumnBlock;
  for (std::size_t i = 0; i < p.tokens * kRows * kLanes; ++i) sums[i] = 0;

  for (std::size_t column = 0; column < p.columns; column += kColumnBlock) {
    const std::size_t left = p.columns - column;
    const std::size_t count = left < kColumnBlock ? left : kColumnBlock;
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::byte* data =
          p.data + (row + r) * p.row_size + column / kColumnBlock * p.column_block_size;
      decode(p.type, data, weights + r * kColumnBlock, count);
    }
    std::size_t t = 0;
    for (; t + kTokens <= p.tokens; t += kTokens) {
      accumulate<Rows, kTokens>(weights, p.x + t * p.x_stride + column, p.x_stride, count,
                                sums + t * kRows * kLanes);
    }
    for (; t < p.tokens; ++t) {
      accumulate<Rows, 1>(weights, p.x + t * p.x_stride + column, p.x_stride, count,
                          sums + t * kRows * kLanes);
    }
  }

  for (std::size_t t = 0; t < p.tokens; ++t) {
    for (std::size_t r = 0; r < Rows; ++r) {
      const float total = sum_lanes(load(sums + (t * kRows + r) * kLanes));
      float& y = p.y[t * p.y_stride + row + r];
      y = epilogue == Epilogue::Add ? y + total : activate(total, epilogue);
    }
  }
}

// Sixteen stored weights as floats.
template <DataType Type>
inline Floats load_weights(const std::byte* data) {
  if constexpr (Type == DataType::F32) return load_unaligned(data);
  if constexpr (Type == DataType::F16) return widen_unaligned_halves(data);
  if constexpr (Type == DataType::BF16) return widen_unaligned_bfloats(data);
}

// row_group for one token of a float type, without the way through scratch memory: the same sums in
// the same order.
template <DataType Type, std::size_t Rows>
inline void float_rows(const MatrixProduct& p, std::size_t row, Epilogue epilogue) {
  constexpr std::size_t kSize = Type == DataType::F32 ? 4 : 2;
  Floats total[Rows] = {};
  const std::size_t whole = p.columns / kLanes * kLanes;
  for (std::size_t column = 0; column < whole; column += kLanes) {
    const Floats x = load(p.x + column);
    for (std::size_t r = 0; r < Rows; ++r) {
      total[r] += load_weights<Type>(p.data + (row + r) * p.row_size + column * kSize) * x;
    }
  }
  const std::size_t rest = p.columns - whole;
  if (rest > 0) {
    const Floats x = load_part(p.x + whole, rest);
    for (std::size_t r = 0; r < Rows; ++r) {
      std::byte padded[kLanes * kSize] = {};
      std::memcpy(padded, p.data + (row + r) * p.row_size + whole * kSize, rest * kSize);
      total[r] += load_weights<Type>(padded) * x;
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    const float sum = sum_lanes(total[r]);
    float& y = p.y[row + r];
    y = epilogue == Epilogue::Add ? y + sum : activate(sum, epilogue);
  }
}

template <DataType Type>
inline void all_float_rows(const MatrixProduct& product, std::size_t begin, std::size_t end,
                           Epilogue epilogue) {
  std::size_t row = begin;
  for (; row + kRows <= end; row += kRows) float_rows<Type, kRows>(product, row, epilogue);
  for (; row < end; ++row) float_rows<Type, 1>(product, row, epilogue);
}

void matrix_rows(const MatrixProduct& product, std::size_t begin, std::size_t end,
                 Epilogue epilogue) {
  if (product.tokens == 1) {
    switch (product.type) {
      case DataType::F32:
        return all_float_rows<DataType::F32>(product, begin, end, epilogue);
      case DataType::F16:
        return all_float_rows<DataType::F16>(product, begin, end, epilogue);
      case DataType::BF16:
        return all_float_rows<DataType::BF16>(product, begin, end, epilogue);
      default:
        break;
    }
  }
  std::size_t row = begin;
  for (; row + kRows <= end; row += kRows) row_group<kRows>(product, row, epilogue);
  for (; row < end; ++row) row_group<1>(product, row, epilogue);
}

void normalize(const float* x, const float* weight, const float* bias, float epsilon, std::size_t n,
               float* out) {
  const float size = static_cast<float>(n);
  const float mean = sum(x, n) / size;
  // Squares of the part past n must not count, so the difference goes through memory.
  Floats squares = {};
  for_lanes(n, [&](auto get, auto put) { put(out, get(x) - mean); });
  for_lanes(n, [&](auto get, auto) { squares += get(out) * get(out); });
  const float scale = 1.0F / __builtin_sqrtf(sum_lanes(squares) / size + epsilon);
  for_lanes(n, [&](auto get, auto put) { put(out, get(out) * scale * get(weight) + get(bias)); });
}

void shift(const float* xx, const float* previous, const float* mu, std::size_t n, float* out) {
  for_lanes(n, [&](auto get, auto put) {
    const Floats current = get(xx);
    put(out, current + (get(previous) - current) * get(mu));
  });
}

void decay(float* x, const float* bias, std::size_t n) {
  constexpr float kScale = static_cast<float>(-kDecayScale);
  for_lanes(
      n, [&](auto get, auto put) { put(x, exponential(kScale * sigmoid_of(get(x) + get(bias)))); });
}

void sigmoid(float* x, const float* bias, std::size_t n) {
  for_lanes(n, [&](auto get, auto put) { put(x, sigmoid_of(get(x) + get(bias))); });
}

void keys(float* k, const float* a, const float* k_k, const float* k_a, std::size_t n, float* kk) {
  for_lanes(n, [&](auto get, auto put) { put(kk, get(k) * get(k_k)); });
  const float norm = __builtin_sqrtf(dot(kk, kk, n));
  const float scale = 1.0F / (norm > 1e-12F ? norm : 1e-12F);
  for_lanes(n, [&](auto get, auto put) {
    put(kk, get(kk) * scale);
    put(k, get(k) * (1.0F + (get(a) - 1.0F) * get(k_a)));
  });
}

void value_residual(float* v, const float* v_first, const float* mix, std::size_t n) {
  for_lanes(n, [&](auto get, auto put) {
    const Floats own = get(v);
    put(v, own + (get(v_first) - own) * get(mix));
  });
}

void head_step(const HeadStep& step) {
  const std::size_t n = step.n;
  for (std::size_t i = 0; i < n; ++i) {
    float* s = step.s + i * n;
    const float sa = -dot(s, step.kk, n);
    const float v = step.v[i];
    Floats y = {};
    for_lanes(n, [&](auto get, auto put) {
      const Floats row = get(s) * get(step.w) + sa * (get(step.kk) * get(step.a)) + v * get(step.k);
      put(s, row);
      y += row * get(step.r);
    });
    step.y[i] = sum_lanes(y);
  }
}

void bonus_and_gate(float* y, const float* r, const float* k, const float* r_k, const float* v,
                    const float* g, std::size_t n) {
  Floats products = {};
  for_lanes(n, [&](auto get, auto) { products += get(r) * get(k) * get(r_k); });
  const float bonus = sum_lanes(products);
  for_lanes(n, [&](auto get, auto put) { put(y, (get(y) + bonus * get(v)) * get(g)); });
}
