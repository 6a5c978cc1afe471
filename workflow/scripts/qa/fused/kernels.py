"""Triton kernels of an encoder layer: all of it but its matrix products. `layers` starts them.

T is the number of tokens of a packed row, H the width of the model, W that of the product at hand. Activations are
bf16, and the residual stream, the sums and the normalisation are fp32. Dropout is drawn from a hash of seed, place and
site (lowbias32 of github.com/skeeto/hash-prospector): Philox makes the kernels slower than their memory traffic.
"""

import triton
import triton.language as tl


@triton.jit
def _kept(seed, place, THRESHOLD: tl.constexpr):
    """Which places dropout keeps: those whose 24 random bits reach the threshold."""
    s = (seed & 0x7FFFFFFF).to(tl.uint32)
    s = (s ^ (s >> 16)) * 0x7FEB352D
    s = (s ^ (s >> 15)) * 0x2C1B3C6D
    x = place.to(tl.uint32) ^ (s ^ (s >> 16))
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x2C1B3C6D
    x = x ^ (x >> 16)
    return (x >> 8).to(tl.int32) >= THRESHOLD


@triton.jit
def norm_forward(
    X, RESIDUAL, GAMMA, BETA, Y, Y_HALF, XHAT, RSTD, SEED, site, T, eps,
    H: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, P: tl.constexpr, THRESHOLD: tl.constexpr,
):  # fmt: skip
    """y = layernorm(residual + dropout(x)), in fp32 and in half precision. Keeps the normalised rows and 1/std."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    mask = (row < T)[:, None] & (col < H)[None, :]
    place = row[:, None] * H + col[None, :]
    x = tl.load(X + place, mask=mask, other=0.0).to(tl.float32)
    if P > 0:
        x = tl.where(_kept(tl.load(SEED) + site, place, THRESHOLD), x * (1.0 / (1.0 - P)), 0.0)
    z = x + tl.load(RESIDUAL + place, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(z, 1) / H
    centred = tl.where(mask, z - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / H + eps)
    xhat = centred * rstd[:, None]
    gamma = tl.load(GAMMA + col, mask=col < H, other=0.0)[None, :]
    y = xhat * gamma + tl.load(BETA + col, mask=col < H, other=0.0)[None, :]
    tl.store(Y + place, y, mask=mask)
    tl.store(Y_HALF + place, y.to(Y_HALF.dtype.element_ty), mask=mask)
    tl.store(XHAT + place, xhat.to(XHAT.dtype.element_ty), mask=mask)
    tl.store(RSTD + row, rstd, mask=row < T)


@triton.jit
def norm_backward(
    DY, DY_BRANCH, XHAT, RSTD, GAMMA, DRESIDUAL, DX, PARTS, SEED, site, T, groups,
    H: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, P: tl.constexpr, THRESHOLD: tl.constexpr,
    TWO: tl.constexpr,
):  # fmt: skip
    """Gradients of residual and x, and a program's sums of those of gamma, beta and the bias that was added to x.

    The gradient of y comes from the residual stream and, if TWO, from the branch that follows.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    col = tl.arange(0, BLOCK)
    cols = col < H
    gamma = tl.load(GAMMA + col, mask=cols, other=0.0)[None, :]
    of_gamma = tl.zeros([ROWS, BLOCK], tl.float32)
    of_beta = tl.zeros([ROWS, BLOCK], tl.float32)
    of_bias = tl.zeros([ROWS, BLOCK], tl.float32)
    for group in range(program, groups, programs):
        row = group * ROWS + tl.arange(0, ROWS)
        mask = (row < T)[:, None] & cols[None, :]
        place = row[:, None] * H + col[None, :]
        dy = tl.load(DY + place, mask=mask, other=0.0).to(tl.float32)
        if TWO:
            dy += tl.load(DY_BRANCH + place, mask=mask, other=0.0).to(tl.float32)
        xhat = tl.load(XHAT + place, mask=mask, other=0.0).to(tl.float32)
        rstd = tl.load(RSTD + row, mask=row < T, other=0.0)
        of_beta += dy
        of_gamma += dy * xhat
        scaled = dy * gamma
        mean = tl.sum(scaled, 1) / H
        along = tl.sum(scaled * xhat, 1) / H
        dz = (scaled - mean[:, None] - xhat * along[:, None]) * rstd[:, None]
        tl.store(DRESIDUAL + place, dz.to(DRESIDUAL.dtype.element_ty), mask=mask)
        dx = dz
        if P > 0:
            dx = tl.where(_kept(tl.load(SEED) + site, place, THRESHOLD), dz * (1.0 / (1.0 - P)), 0.0)
            tl.store(DX + place, dx.to(DX.dtype.element_ty), mask=mask)
        of_bias += tl.where(mask, dx, 0.0)
    part = PARTS + program * 3 * H + col
    tl.store(part, tl.sum(of_gamma, 0), mask=cols)
    tl.store(part + H, tl.sum(of_beta, 0), mask=cols)
    tl.store(part + 2 * H, tl.sum(of_bias, 0), mask=cols)


@triton.jit
def add_parts(PARTS, OUT, n, W, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """Column sums of (n, W) partial sums, in a fixed order."""
    col = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([STEP, BLOCK], tl.float32)
    for start in range(0, n, STEP):
        row = start + tl.arange(0, STEP)
        mask = (row < n)[:, None] & (col < W)[None, :]
        total += tl.load(PARTS + row[:, None] * W + col[None, :], mask=mask, other=0.0)
    tl.store(OUT + col, tl.sum(total, 0), mask=col < W)


@triton.jit
def gelu_forward(X, Y, n, BLOCK: tl.constexpr):
    """GELU by the error function."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + place, mask=place < n, other=0.0).to(tl.float32)
    y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(Y + place, y.to(Y.dtype.element_ty), mask=place < n)


@triton.jit
def column_sums(
    DY, X, DX, PARTS, T, W, rows_each, ROWS: tl.constexpr, COLS: tl.constexpr, GELU: tl.constexpr
):  # fmt: skip
    """Sums over some rows of DY, which are a bias's gradient. With GELU: of its input's gradient, which goes to DX."""
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    first = tl.program_id(1) * rows_each
    total = tl.zeros([ROWS, COLS], tl.float32)
    for start in range(first, first + rows_each, ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < T)[:, None] & (col < W)[None, :]
        place = row[:, None] * W + col[None, :]
        dx = tl.load(DY + place, mask=mask, other=0.0).to(tl.float32)
        if GELU:
            x = tl.load(X + place, mask=mask, other=0.0).to(tl.float32)
            dx *= 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
            tl.store(DX + place, dx.to(DX.dtype.element_ty), mask=mask)
        total += dx
    tl.store(PARTS + tl.program_id(1) * W + col, tl.sum(total, 0), mask=col < W)


@triton.jit
def attention_forward(
    QKV, OUT, LSE, BOUNDS, T, scale, H: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr
):  # fmt: skip
    """Attention within windows over (T, 3 H) projections. `scale` has log2(e) in it; LSE, (heads, T), is in base 2."""
    head, window = tl.program_id(1), tl.program_id(2)
    first = tl.load(BOUNDS + window)
    length = tl.load(BOUNDS + window + 1) - first
    if tl.program_id(0) * QUERIES < length:
        query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
        d = head * D + tl.arange(0, D)
        own = (query < length)[:, None]
        q = tl.load(QKV + (first + query)[:, None] * (3 * H) + d[None, :], mask=own, other=0.0)
        top = tl.full([QUERIES], float("-inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        out = tl.zeros([QUERIES, D], tl.float32)
        for start in range(0, length, KEYS):
            key = start + tl.arange(0, KEYS)
            inside = key < length
            places = (first + key) * (3 * H)
            k = tl.load(QKV + places[None, :] + H + d[:, None], mask=inside[None, :], other=0.0)
            scores = tl.dot(q, k, input_precision="ieee") * scale
            scores = tl.where(inside[None, :], scores, float("-inf"))
            higher = tl.maximum(top, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            shrink = tl.exp2(top - higher)
            total = total * shrink + tl.sum(weights, 1)
            v = tl.load(QKV + places[:, None] + 2 * H + d[None, :], mask=inside[:, None], other=0.0)
            out = out * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
            top = higher
        out = (out / total[:, None]).to(OUT.dtype.element_ty)
        tl.store(OUT + (first + query)[:, None] * H + d[None, :], out, mask=own)
        tl.store(LSE + head * T + first + query, top + tl.log2(total), mask=query < length)


@triton.jit
def attention_backward_queries(
    QKV, OUT, DOUT, LSE, DELTA, DQKV, BOUNDS, T, scale, softmax_scale,
    H: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The queries' gradients, and DELTA, (heads, T), which `attention_backward_keys` reads."""
    head, window = tl.program_id(1), tl.program_id(2)
    first = tl.load(BOUNDS + window)
    length = tl.load(BOUNDS + window + 1) - first
    if tl.program_id(0) * QUERIES < length:
        query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
        d = head * D + tl.arange(0, D)
        inside = query < length
        rows = (first + query)[:, None] * (3 * H) + d[None, :]
        outs = (first + query)[:, None] * H + d[None, :]
        q = tl.load(QKV + rows, mask=inside[:, None], other=0.0)
        dout = tl.load(DOUT + outs, mask=inside[:, None], other=0.0)
        out = tl.load(OUT + outs, mask=inside[:, None], other=0.0)
        delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
        lse = tl.load(LSE + head * T + first + query, mask=inside, other=0.0)
        tl.store(DELTA + head * T + first + query, delta, mask=inside)
        dq = tl.zeros([QUERIES, D], tl.float32)
        for start in range(0, length, KEYS):
            key = start + tl.arange(0, KEYS)
            places = (first + key)[None, :] * (3 * H) + H + d[:, None]
            k = tl.load(QKV + places, mask=(key < length)[None, :], other=0.0)
            v = tl.load(QKV + places + H, mask=(key < length)[None, :], other=0.0)
            weights = tl.exp2(tl.dot(q, k, input_precision="ieee") * scale - lse[:, None])
            weights = tl.where((key < length)[None, :], weights, 0.0)
            slopes = weights * (tl.dot(dout, v, input_precision="ieee") - delta[:, None])
            dq += tl.dot(slopes.to(k.dtype), tl.trans(k), input_precision="ieee")
        tl.store(DQKV + rows, (dq * softmax_scale).to(DQKV.dtype.element_ty), mask=inside[:, None])


@triton.jit
def attention_backward_keys(
    QKV, DOUT, LSE, DELTA, DQKV, BOUNDS, T, scale, softmax_scale,
    H: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradients of keys and values."""
    head, window = tl.program_id(1), tl.program_id(2)
    first = tl.load(BOUNDS + window)
    length = tl.load(BOUNDS + window + 1) - first
    if tl.program_id(0) * KEYS < length:
        key = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
        d = head * D + tl.arange(0, D)
        own = (key < length)[:, None]
        places = (first + key)[:, None] * (3 * H) + H + d[None, :]
        k = tl.load(QKV + places, mask=own, other=0.0)
        v = tl.load(QKV + places + H, mask=own, other=0.0)
        dk = tl.zeros([KEYS, D], tl.float32)
        dv = tl.zeros([KEYS, D], tl.float32)
        for start in range(0, length, QUERIES):
            query = start + tl.arange(0, QUERIES)
            inside = query < length
            q = tl.load(QKV + (first + query)[:, None] * (3 * H) + d[None, :], mask=inside[:, None], other=0.0)
            dout = tl.load(DOUT + (first + query)[:, None] * H + d[None, :], mask=inside[:, None], other=0.0)
            lse = tl.load(LSE + head * T + first + query, mask=inside, other=float("inf"))
            delta = tl.load(DELTA + head * T + first + query, mask=inside, other=0.0)
            weights = tl.exp2(tl.dot(k, tl.trans(q), input_precision="ieee") * scale - lse[None, :])
            dv += tl.dot(weights.to(dout.dtype), dout, input_precision="ieee")
            slopes = weights * (tl.dot(v, tl.trans(dout), input_precision="ieee") - delta[None, :])
            dk += tl.dot(slopes.to(q.dtype), q, input_precision="ieee")
        tl.store(DQKV + places, (dk * softmax_scale).to(DQKV.dtype.element_ty), mask=own)
        tl.store(DQKV + places + H, dv.to(DQKV.dtype.element_ty), mask=own)


@triton.jit
def embed_forward(
    IDS, PLACES, TYPES, WORDS, POSITIONS, KINDS, GAMMA, BETA, Y, XHAT, RSTD, SEED, eps,
    H: tl.constexpr, BLOCK: tl.constexpr, P: tl.constexpr, THRESHOLD: tl.constexpr,
):  # fmt: skip
    """y = dropout(layernorm(word + position + type)), a token a program, from fp32 tables."""
    row = tl.program_id(0)
    col = tl.arange(0, BLOCK)
    mask = col < H
    z = tl.load(WORDS + tl.load(IDS + row) * H + col, mask=mask, other=0.0)
    z += tl.load(POSITIONS + tl.load(PLACES + row) * H + col, mask=mask, other=0.0)
    z += tl.load(KINDS + tl.load(TYPES + row) * H + col, mask=mask, other=0.0)
    centred = tl.where(mask, z - tl.sum(z, 0) / H, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / H + eps)
    xhat = centred * rstd
    y = xhat * tl.load(GAMMA + col, mask=mask, other=0.0) + tl.load(BETA + col, mask=mask, other=0.0)
    place = row * H + col
    if P > 0:
        y = tl.where(_kept(tl.load(SEED), place, THRESHOLD), y * (1.0 / (1.0 - P)), 0.0)
    tl.store(Y + place, y, mask=mask)
    tl.store(XHAT + place, xhat, mask=mask)
    tl.store(RSTD + row, rstd)


@triton.jit
def embed_backward(
    IDS, PLACES, TYPES, DY, XHAT, RSTD, GAMMA, DWORDS, DPOSITIONS, PARTS, SEED, T, no_word, no_position,
    H: tl.constexpr, BLOCK: tl.constexpr, P: tl.constexpr, THRESHOLD: tl.constexpr,
):  # fmt: skip
    """Adds to the gradients of words and positions, padding's excepted.

    Each program stores its partial sums for gamma, beta and the two token types.
    """
    col = tl.arange(0, BLOCK)
    mask = col < H
    gamma = tl.load(GAMMA + col, mask=mask, other=0.0)
    of_gamma = tl.zeros([BLOCK], tl.float32)
    of_beta = tl.zeros([BLOCK], tl.float32)
    of_first = tl.zeros([BLOCK], tl.float32)
    of_second = tl.zeros([BLOCK], tl.float32)
    for row in range(tl.program_id(0), T, tl.num_programs(0)):
        place = row * H + col
        dy = tl.load(DY + place, mask=mask, other=0.0)
        if P > 0:
            dy = tl.where(_kept(tl.load(SEED), place, THRESHOLD), dy * (1.0 / (1.0 - P)), 0.0)
        xhat = tl.load(XHAT + place, mask=mask, other=0.0)
        of_beta += dy
        of_gamma += dy * xhat
        scaled = dy * gamma
        dz = (scaled - tl.sum(scaled, 0) / H - xhat * (tl.sum(scaled * xhat, 0) / H)) * tl.load(RSTD + row)
        dz = tl.where(mask, dz, 0.0)
        second = tl.load(TYPES + row) == 1
        of_first += tl.where(second, 0.0, dz)
        of_second += tl.where(second, dz, 0.0)
        word, position = tl.load(IDS + row), tl.load(PLACES + row)
        tl.atomic_add(DWORDS + word * H + col, dz, mask=mask & (word != no_word), sem="relaxed")
        tl.atomic_add(DPOSITIONS + position * H + col, dz, mask=mask & (position != no_position), sem="relaxed")
    part = PARTS + tl.program_id(0) * 4 * H + col
    tl.store(part, of_gamma, mask=mask)
    tl.store(part + H, of_beta, mask=mask)
    tl.store(part + 2 * H, of_first, mask=mask)
    tl.store(part + 3 * H, of_second, mask=mask)
