"""Gaussian mixtures of colours: built by splitting, refined by reassignment.

Orchard and Bouman, "Color quantization of images", IEEE Trans. Signal Processing 1991, as GrabCut implementations use
it: the component that varies most along one axis is split at its mean across that axis.

A sample is a colour that stands for `weight` pixels. A mixture is float64 (K, 11), a component a row: share of the
weight (0: unused), log of the density's factor, mean (3), inverse covariance (xx, xy, xz, yy, yz, zz).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

COMPONENTS = 5
SMALLEST_SPLIT = 0.01  # variance below which a component is not split
REGULARISER = 1e-6  # added to the variances, so that a single colour has a density


@njit(cache=True, nogil=True)
def build(samples, weight, most):  # type: ignore[no-untyped-def]  # numba infers
    """Mixture of at most `most` components of samples float64 (N, 3) in 0..1 with weights float64 (N,)."""
    label = np.zeros(len(samples), np.uint8)
    moments = np.zeros((most, 10))
    axes = np.zeros((most, 4))  # largest variance, its direction
    _moments(samples, weight, label, moments)
    axes[0] = _main_axis(_covariance(moments[0]))
    used = 1
    while used < most:
        widest = int(np.argmax(axes[:used, 0]))
        if axes[widest, 0] < SMALLEST_SPLIT:
            break
        _, x, y, z = axes[widest]
        m = moments[widest]
        middle = (x * m[1] + y * m[2] + z * m[3]) / m[0]
        for i in range(len(samples)):
            if label[i] == widest and x * samples[i, 0] + y * samples[i, 1] + z * samples[i, 2] > middle:
                label[i] = used
        _moments(samples, weight, label, moments)
        for k in (widest, used):
            axes[k] = _main_axis(_covariance(moments[k]))
        used += 1
    return _mixture(moments[:used])


@njit(cache=True, nogil=True)
def refine(samples, weight, mixture):  # type: ignore[no-untyped-def]  # numba infers
    """Assign each sample to the component of greatest density, its share left out, and fit the components again."""
    label = np.zeros(len(samples), np.uint8)
    for i in range(len(samples)):
        best = -np.inf
        for k in range(len(mixture)):
            if mixture[k, 0] > 0:
                density = _log_density(mixture[k], samples[i, 0], samples[i, 1], samples[i, 2])
                if density > best:
                    best = density
                    label[i] = k
    moments = np.zeros((len(mixture), 10))
    _moments(samples, weight, label, moments)
    return _mixture(moments)


@njit(cache=True, nogil=True)
def cost(samples, mixture):  # type: ignore[no-untyped-def]  # numba infers
    """Negative log likelihood of each sample, up to the constant that all mixtures share."""
    result = np.empty(len(samples))
    logs = np.empty(len(mixture))
    for i in range(len(samples)):
        greatest = -np.inf
        for k in range(len(mixture)):
            logs[k] = -np.inf
            if mixture[k, 0] > 0:
                logs[k] = math.log(mixture[k, 0])
                logs[k] += _log_density(mixture[k], samples[i, 0], samples[i, 1], samples[i, 2])
                greatest = max(greatest, logs[k])
        total = 0.0
        for k in range(len(mixture)):
            if logs[k] > greatest - 40:
                total += math.exp(logs[k] - greatest)
        result[i] = -(greatest + math.log(total))
    return result


@njit(cache=True, nogil=True)
def _log_density(c, x, y, z):  # type: ignore[no-untyped-def]  # numba infers
    x, y, z = x - c[2], y - c[3], z - c[4]
    square = x * (c[5] * x + 2 * (c[6] * y + c[7] * z)) + y * (c[8] * y + 2 * c[9] * z) + z * c[10] * z
    return c[1] - 0.5 * square


@njit(cache=True, nogil=True)
def _moments(samples, weight, label, moments):  # type: ignore[no-untyped-def]  # numba infers
    """Per label: sums of weight, x, y, z, xx, xy, xz, yy, yz, zz."""
    moments[:] = 0
    for i in range(len(samples)):
        w = weight[i]
        if w > 0:
            x, y, z = samples[i, 0], samples[i, 1], samples[i, 2]
            m = moments[label[i]]
            m[0] += w
            m[1] += w * x
            m[2] += w * y
            m[3] += w * z
            m[4] += w * x * x
            m[5] += w * x * y
            m[6] += w * x * z
            m[7] += w * y * y
            m[8] += w * y * z
            m[9] += w * z * z


@njit(cache=True, nogil=True)
def _covariance(m):  # type: ignore[no-untyped-def]  # numba infers
    """Covariance (xx, xy, xz, yy, yz, zz) of a component, regularised."""
    c = np.zeros(6)
    if m[0] > 0:
        x, y, z = m[1] / m[0], m[2] / m[0], m[3] / m[0]
        c[0] = m[4] / m[0] - x * x + REGULARISER
        c[1] = m[5] / m[0] - x * y
        c[2] = m[6] / m[0] - x * z
        c[3] = m[7] / m[0] - y * y + REGULARISER
        c[4] = m[8] / m[0] - y * z
        c[5] = m[9] / m[0] - z * z + REGULARISER
    return c


@njit(cache=True, nogil=True)
def _main_axis(c):  # type: ignore[no-untyped-def]  # numba infers
    """Largest eigenvalue of a covariance, then its unit eigenvector (cyclic Jacobi rotations)."""
    a = np.array([[c[0], c[1], c[2]], [c[1], c[3], c[4]], [c[2], c[4], c[5]]])
    v = np.eye(3)
    for _ in range(30):
        if a[0, 1] ** 2 + a[0, 2] ** 2 + a[1, 2] ** 2 < 1e-30:
            break
        for p, q in ((0, 1), (0, 2), (1, 2)):
            if a[p, q] == 0:
                continue
            theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
            tangent = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1))
            cos = 1 / math.sqrt(tangent * tangent + 1)
            sin = tangent * cos
            for k in range(3):
                a[k, p], a[k, q] = cos * a[k, p] - sin * a[k, q], sin * a[k, p] + cos * a[k, q]
            for k in range(3):
                a[p, k], a[q, k] = cos * a[p, k] - sin * a[q, k], sin * a[p, k] + cos * a[q, k]
            for k in range(3):
                v[k, p], v[k, q] = cos * v[k, p] - sin * v[k, q], sin * v[k, p] + cos * v[k, q]
    best = 0
    for k in range(1, 3):
        if a[k, k] > a[best, best]:
            best = k
    return np.array([a[best, best], v[0, best], v[1, best], v[2, best]])


@njit(cache=True, nogil=True)
def _mixture(moments):  # type: ignore[no-untyped-def]  # numba infers
    result = np.zeros((len(moments), 11))
    total = moments[:, 0].sum()
    for k in range(len(moments)):
        if moments[k, 0] <= 0:
            continue
        xx, xy, xz, yy, yz, zz = _covariance(moments[k])
        cofactor_x, cofactor_y, cofactor_z = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        det = xx * cofactor_x + xy * cofactor_y + xz * cofactor_z
        if det <= 0:  # rounding; cannot happen for a component with variance of its own
            continue
        r = result[k]
        r[0] = moments[k, 0] / total
        r[1] = -0.5 * math.log(det)
        r[2:5] = moments[k, 1:4] / moments[k, 0]
        r[5], r[6], r[7] = cofactor_x / det, cofactor_y / det, cofactor_z / det
        r[8], r[9], r[10] = (xx * zz - xz * xz) / det, (xy * xz - xx * yz) / det, (xx * yy - xy * xy) / det
    return result
