"""Returns and advantages. Shapes: T steps, B environments. `terminated` and `truncated` are never merged."""

import numpy as np


def rewards_to_go(reward_T: np.ndarray, end_T: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted sum of the rewards from each step to the end of its episode: R_t = r_t + γ R_{t+1}.

    `end_T` marks the last step of each episode. Works on (T,) and on (T, B); float64 inside, float32 out.
    """
    out = np.empty(reward_T.shape, np.float64)
    carry = np.zeros(reward_T.shape[1:])
    for t in reversed(range(len(reward_T))):
        carry = reward_T[t] + gamma * np.where(end_T[t], 0.0, carry)
        out[t] = carry
    return out.astype(np.float32)


def gae(
    reward_TB: np.ndarray,
    value_TB: np.ndarray,
    next_value_TB: np.ndarray,
    terminated_TB: np.ndarray,
    truncated_TB: np.ndarray,
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16).

    δ_t = r_t + γ V(s'_t) − V(s_t), A_t = δ_t + γλ A_{t+1}. `next_value_TB` is the value of the observation that the
    action led to, before any reset. A termination bootstraps nothing; a truncation bootstraps V(s'); both cut the sum.
    """
    delta_TB = reward_TB + gamma * next_value_TB * ~terminated_TB - value_TB
    decay_TB = gamma * lam * ~(terminated_TB | truncated_TB)
    adv_TB = np.empty_like(delta_TB)
    carry = np.zeros(delta_TB.shape[1:], delta_TB.dtype)
    for t in reversed(range(len(delta_TB))):
        carry = delta_TB[t] + decay_TB[t] * carry
        adv_TB[t] = carry
    return adv_TB


def discounted_sums(reward_TB: np.ndarray, end_TB: np.ndarray, start_B: np.ndarray, gamma: float):
    """G_t = γ G_{t−1} + r_t, forwards, zeroed after each episode's end; and the G to carry on with."""
    out_TB = np.empty(reward_TB.shape)
    carry = start_B
    for t, reward_B in enumerate(reward_TB):
        carry = gamma * carry + reward_B
        out_TB[t] = carry
        carry = np.where(end_TB[t], 0.0, carry)
    return out_TB, carry


def explained_variance(prediction: np.ndarray, target: np.ndarray) -> float:
    """1 − Var(target − prediction) / Var(target); 1 is perfect, 0 no better than a constant."""
    variance = float(np.var(target))
    if not variance > 0:  # NaN too
        return 0.0
    return 1 - float(np.var(target - prediction)) / variance
