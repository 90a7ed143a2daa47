"""Small files in D4RL's exact layout, made by stepping gymnasium."""

import h5py
import numpy as np

from benchbench.envs.mujoco import make_simulator


def record(body, rows, seed=0, limit=60):
    """Rows as D4RL's ``collect_data.py`` books them, and the positions in full precision.

    ``limit`` stands for D4RL's 1,000 steps, so that small files hold cuts too.
    """
    simulator = make_simulator(body)
    rng = np.random.default_rng(seed)
    contact = 84 if body == "ant" else 0  # gym's v2 had contact forces, all 0, in the observation
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "qpos", "qvel")
    columns = {name: [] for name in names}
    obs, step = simulator.reset(seed=seed)[0], 0
    for row in range(rows):
        if row % 5 == 0:
            action = rng.uniform(-1, 1, simulator.action_space.shape).astype(np.float32)
        columns["qpos"].append(simulator.data.qpos.copy())
        columns["qvel"].append(simulator.data.qvel.copy())
        columns["observations"].append(np.concatenate([obs, np.zeros(contact)]))
        columns["actions"].append(action)
        obs, reward, done, _, _ = simulator.step(action)
        step += 1
        columns["rewards"].append(reward)
        columns["timeouts"].append(step == limit)
        columns["terminals"].append(done and step < limit)
        if done or step == limit:
            obs, step = simulator.reset()[0], 0
    simulator.close()
    exact = np.array(columns["qpos"])
    flat = {name: np.array(values) for name, values in columns.items()}
    flat = {name: v if v.dtype == bool else v.astype(np.float32) for name, v in flat.items()}
    flat |= {f"infos/{name}": flat.pop(name) for name in ("qpos", "qvel")}
    flat["infos/action_log_probs"] = np.zeros(rows, np.float32)
    flat["next_observations"] = np.roll(flat["observations"], -1, axis=0)
    return flat, exact


def write_d4rl(path, columns):
    """Flat keys, compressed, with the metadata that D4RL's v2 files have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            compressed = {"compression": "gzip"} if np.ndim(values) else {}
            file.create_dataset(key, data=values, **compressed)
        file["metadata/algorithm"] = np.bytes_("SAC")
        file["metadata/iteration"] = np.int32(1000)
        file["metadata/policy/nonlinearity"] = np.bytes_("relu")
    return path
