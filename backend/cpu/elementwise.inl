// Operations on vectors, and the recurrence. Included by kernels.inl.

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

// head_step for 16 Blocks value indexes from `first` on: sums stay in registers, and as the state's
// rows are key indexes, no sum goes across lanes. A partial block has `rest` < 16.
template <std::size_t Blocks, bool Partial = false>
inline void state_columns(const HeadStep& step, std::size_t first, std::size_t rest = 0) {
  const std::size_t n = step.n;
  const auto get = [&](const float* data, std::size_t block) {
    return Partial ? load_part(data + first, rest) : load(data + first + 16 * block);
  };
  const auto put = [&](float* data, std::size_t block, const Floats& value) {
    if (Partial) {
      store_part(data + first, value, rest);
    } else {
      store(data + first + 16 * block, value);
    }
  };
  // Local copies, and numbers read before the rows are written: a compiler must assume that writing
  // a row changes whatever lies in memory.
  const float* const r = step.r;
  const float* const w = step.w;
  const float* const k = step.k;
  const float* const kk = step.kk;
  const float* const a = step.a;
  float* const s = step.s;
  Floats removed[Blocks] = {};  // what the key finds in the state: S kk
  for (std::size_t j = 0; j < n; ++j) {
    const Floats key = fill(kk[j]);
    for (std::size_t b = 0; b < Blocks; ++b) removed[b] += get(s + j * n, b) * key;
  }
  Floats v[Blocks];
  Floats y[Blocks] = {};
  for (std::size_t b = 0; b < Blocks; ++b) v[b] = get(step.v, b);
  for (std::size_t j = 0; j < n; ++j) {
    const Floats decay = fill(w[j]);
    const Floats removal = fill(-kk[j] * a[j]);
    const Floats key = fill(k[j]);
    const Floats receptance = fill(r[j]);
    float* row = s + j * n;
    for (std::size_t b = 0; b < Blocks; ++b) {
      Floats state = get(row, b) * decay;
      state += removed[b] * removal;
      state += v[b] * key;
      put(row, b, state);
      y[b] += state * receptance;
    }
  }
  for (std::size_t b = 0; b < Blocks; ++b) put(step.y, b, y[b]);
}

void head_step(const HeadStep& step) {
  constexpr std::size_t kBlocks = kParts == 1 ? 4 : 2;  // as many as fit in registers
  std::size_t i = 0;
  for (; i + 16 * kBlocks <= step.n; i += 16 * kBlocks) state_columns<kBlocks>(step, i);
  for (; i + 16 <= step.n; i += 16) state_columns<1>(step, i);
  if (i < step.n) state_columns<1, true>(step, i, step.n - i);
}

void bonus_and_gate(float* y, const float* r, const float* k, const float* r_k, const float* v,
                    const float* g, std::size_t n) {
  Floats products = {};
  for_lanes(n, [&](auto get, auto) { products += get(r) * get(k) * get(r_k); });
  const float bonus = sum_lanes(products);
  for_lanes(n, [&](auto get, auto put) { put(y, (get(y) + bonus * get(v)) * get(g)); });
}
