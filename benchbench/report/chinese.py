"""The report in Chinese: tables of phrases, keyed by the English.

Names of variants, losses, modules and statistics stay as they are; figures stay in English.
"""

from __future__ import annotations

MEASURES: dict[str, str] = {
    "applied share of the critic's gradient, on obs_encoder at the watched steps":
        "critic 梯度中被应用的比例，在被观测的训练步、obs_encoder 上",
    "R² of the return-to-go probe, last evaluation": "未来回报（return-to-go）探针的 R²，最后一次评估",
    "R² of the dataset-action probe, last evaluation": "数据集动作探针的 R²，最后一次评估",
    "state-probe gain from untrained (0) to oracle (1)": "状态探针增益（0 为未训练、1 为 oracle）",
    "R² of the state probe, last evaluation": "状态探针的 R²，最后一次评估",
    "RMS of Q − own policy's return, over σ_G, last roll-outs":
        "Q 与自身策略回报之差的均方根，以 σ_G 为单位，最后一次推演",
    "RMS of Q − behaviour return, over σ_G, last evaluation":
        "Q 与行为策略回报之差的均方根，以 σ_G 为单位，最后一次评估",
    "normalised area under the score curve": "得分曲线下的归一化面积",
    "score, mean over the last tenth of training": "得分，训练最后十分之一的均值",
    "variance of late score changes, noise removed": "后半程得分变化的方差，已扣除评估噪声",
    "interquartile range of late score changes, noise removed, cut at 0":
        "后半程得分变化的四分位距，已扣除评估噪声，不小于 0",
    "log10 of the critic's over the VAE's gradient norm on the encoder, mean over training":
        "编码器上 critic 与 VAE 梯度范数之比的 log10，训练期间均值",
    "cosine of those two gradients, mean over training": "这两个梯度的余弦，训练期间均值",
    "share of samples with a negative cosine": "余弦为负的样本比例",
    "log10 of the Q part's over the V part's norm in the critic's gradient, mean over training":
        "critic 梯度中 Q 部分与 V 部分范数之比的 log10，训练期间均值",
    "cosine of the encoder's way over 50 updates and the critic loss's descent":
        "编码器 50 次更新的位移与 critic 损失下降方向的余弦",
    "cosine of that way and the VAE loss's descent": "同一位移与 VAE 损失下降方向的余弦",
    "R² of a return probe that sees only the time index": "仅见时间步的回报探针的 R²",
    "R² of the state probe, untrained encoder": "状态探针的 R²，未训练的编码器",
    "R² of the state probe, encoder trained on the state": "状态探针的 R²，以状态训练的编码器（oracle）",
    "effective rank (srank 0.99), last evaluation": "有效秩（srank 0.99），最后一次评估",
    "share of dormant units, last evaluation": "休眠单元比例，最后一次评估",
    "score lost under unseen distractions, mean over the last tenth of training":
        "未见干扰下损失的分数，训练最后十分之一的均值",
    "R² of a probe for the distractions' own state, last evaluation":
        "干扰自身状态探针的 R²，最后一次评估",
    "feature distance for the distractions alone, over all of it (0: all filtered out), last "
    "evaluation": "仅由干扰造成的特征距离占全部的比例（0：全部滤除），最后一次评估",
    "score under unseen distractions, mean over the last tenth of training":
        "未见干扰下的分数，训练最后十分之一的均值",
    "R² of the state probe under unseen distractions": "未见干扰下状态探针的 R²",
    "R² of the return-to-go probe under unseen distractions": "未见干扰下未来回报（return-to-go）探针的 R²",
    "R² of the dataset-action probe under unseen distractions": "未见干扰下数据动作探针的 R²",
    "RMS of Q − own policy's return under unseen distractions, over σ_G":
        "未见干扰下 Q − 自身策略回报的均方根，以 σ_G 计",
    "RMS of Q − behaviour return under unseen distractions, over σ_G":
        "未见干扰下 Q − 行为回报的均方根，以 σ_G 计",
    "linear CKA of the features of both variants (1 is the same)":
        "两个变体特征的线性 CKA（1 为相同）",
    "share of the squared Q error that a constant shift explains": "Q 误差平方中可由常数偏移解释的比例",
    "RMS of Q − own policy's return without a constant shift, over σ_G":
        "扣除常数偏移后 Q 与自身策略回报之差的均方根，以 σ_G 为单位",
    "mean of Q − own policy's return, over σ_G": "Q 与自身策略回报之差的均值，以 σ_G 为单位",
    "rank correlation of Q and the own policy's return": "Q 与自身策略回报的秩相关",
    "slope of the own policy's return on Q (1 is calibrated)": "自身策略回报对 Q 的回归斜率（1 为校准良好）",
    "bound on what the roll-outs' horizon cuts off, over σ_G": "推演截断部分的上界，以 σ_G 为单位",
    "held-out RMS TD error, over σ_G, last evaluation": "留出数据上 TD 误差的均方根，以 σ_G 为单位，最后一次评估",
    "best evaluation (chosen after the fact)": "最佳评估（事后挑选）",
    "mean of the worst 5 % of drawdowns from the best score so far": "相对历史最佳得分的回撤中最差 5 % 的均值",
    "median updates to 50 points, held for two evaluations": "达到 50 分并连续保持两次评估所需更新数的中位数",
    "interquartile mean of the score": "得分的四分位均值（IQM）",
    "probability that a run of the first variant scores above one of the second":
        "前一变体的一次运行得分高于后一变体的概率",
    "interquartile range of the score across seeds": "不同种子之间得分的四分位距",
}  # fmt: skip
"""Names of measures, as the frames have them."""

NOTES: dict[str, str] = {
    "{n} seeds without all of their conditions": "{n} 个种子缺少部分条件",
    "as claimed": "与论断一致",
    "against the claim": "与论断相反",
    "higher": "更高",
    "lower": "更低",
    "the claimed effect of delta is ruled out": "已排除 delta 大小的所称效应",
    "within delta": "在 delta 之内",
    "{n} pairs needed, as up to {rate} of seeds may fail unseen":
        "需要 {n} 对，因为至多 {rate} 的种子可能失败而未被看到",
    "no room for an effect of delta": "已无 delta 大小的余地",
    "{n} pair": "{n} 对",
    "{n} pairs": "{n} 对",
    "{n} needed": "需要 {n} 对",
    "{done} of {planned} planned pairs": "计划 {planned} 对中的 {done} 对",
    "{n} without a finished {against} and {of}": "{n} 对没有完成的 {against} 与 {of}",
    "{n} evaluated at different updates": "{n} 对的评估时刻不同",
    "{n} with a probe's R² below −1, which says nothing": "{n} 对的探针 R² 低于 −1，说明不了什么",
    "{n} without a finite value": "{n} 对没有有限的数值",
    "in place of {measure}, since {n} of {all} pairs lack {needs}":
        "代替“{measure}”：{all} 对中有 {n} 对缺少{needs}",
    "an oracle at least 0.1 R² above the untrained encoder": "比未训练编码器至少高 0.1 R² 的 oracle",
    "roll-outs of the own policy": "自身策略的推演",
    "exact, no test": "精确测量，无需检验",
    "differs in {cells}": "不符的单元：{cells}",
    "{n} of {all} cells differ": "{all} 个单元中有 {n} 个不符",
    "{n} cells without a ledger": "{n} 个单元没有梯度账本",
    "never reached by {a} of {against}, {b} of {of}": "{against} 有 {a}、{of} 有 {b} 从未达到",
}  # fmt: skip
"""Notes and labels of the frames, and what fills them."""

PHRASES: dict[str, str] = {
    "aspect": "方面",
    "impact": "影响",
    "before": "修改前",
    "after": "修改后",
    "difference": "差值",
    "verdict": "结论",
    "supported": "成立",
    "opposite": "方向相反",
    "negligible": "可忽略",
    "shown, size open": "已证实，大小未定",
    "not tested": "未检验",
    "inconclusive": "尚无定论",
    "not measured": "未测量",
    " ({label})": "（{label}）",
    ": ": "：",
    "beside it: {measure}": "对照：{measure}",
    "claimed: {word}": "原文所称：{word}",
    "{first} {second}": "{first}{second}",
    "{clause}.": "{clause}。",
    "{measures}: {note}.": "{measures}：{note}。",
    "Beside them, {counts}.": "此外，{counts}。",
    "no claim of the brief's": "不在原文论断之列",
    "Of seven claims for `{of}`, {counts}.": "关于 `{of}` 的七项论断中，{counts}。",
    "{n} is {word} ({names})": "{n} 项{word}（{names}）",
    "{n} are {word} ({names})": "{n} 项{word}（{names}）",
    "Of seven claims for `{of}`, over the mean of these {n} environments, {counts}.":
        "关于 `{of}` 的七项论断中，就这 {n} 个环境的均值而言，{counts}。",
    "Of seven claims for `{of}`, over the mean of these {n} conditions, {counts}.":
        "关于 `{of}` 的七项论断中，就这 {n} 种条件的均值而言，{counts}。",
    "`{of}` against `{against}` in one aspect: {counts}.": "`{of}` 对 `{against}`，一个方面：{counts}。",
    "`{of}` against `{against}` in {aspects} aspects: {counts}.":
        "`{of}` 对 `{against}`，{aspects} 个方面：{counts}。",
    "By environment, {found}.": "按环境分别来看，{found}。",
    "By condition, {found}.": "按条件分别来看，{found}。",
    "No environment alone decides a claim.": "在任何单个环境中都没有论断得出结论。",
    "{measures}: {verdicts}": "{measures}：{verdicts}",
    "{verdict} on all {n}": "{n} 个均{verdict}", "{verdict} on both": "两个均{verdict}",
    "{verdict} on {m} of {n}": "{n} 个中有 {m} 个{verdict}",
    "{verdict} on {envs}": "{envs} {verdict}",
    "partly {label}": "部分{label}",
    "{names} {label}": "{names}{label}",
    "{names}, {label}": "{names}，{label}",
    "{names}, both {label}": "{names}，均{label}",
    "{names}, all {label}": "{names}，均{label}",
    "There is no finished pair of `{against}` and `{of}`, so nothing is compared.":
        "没有一对完成的 `{against}` 与 `{of}`，因此无从比较。",
    "No two variants are compared.": "没有可比较的两个变体。",
    "These claims were looked at before, with {seeds} seeds; seeds were added by hand afterwards. The "
    "error of that unplanned look is not accounted for.":
        "这些论断此前已在 {seeds} 个种子时看过，其后又手动增加了种子；这次计划外查看的误差未被计入。",
    "one pair (environment, seed)": " 1 对（环境，种子）",
    "{n} pairs (environment, seed)": " {n} 对（环境，种子）",
    "up to {n} pairs (environment, seed)": "至多 {n} 对（环境，种子）",
    "The verdicts rest on {pairs}; {weight}.": "依据为{pairs}；{weight}。",
    "no cell has an untrained score, so whether anything was learned is not known":
        "没有单元有未训练时的得分，无从得知是否学到了东西",
    "whether anything was learned cannot be said from fewer than two cells a variant":
        "每个变体不足两个单元，无法判断是否学到了东西",
    "of {names}, none ended clearly above its untrained score, so comparing them says little":
        "{names} 最终都没有明显高于未训练时的得分，因此比较它们说明不了什么",
    "{clear} ended clearly above the untrained score": "{clear} 最终明显高于未训练时的得分",
    "of {names}, only {clear} ended clearly above the untrained score":
        "{names} 之中，只有 {clear} 最终明显高于未训练时的得分",
    "contents": "目录",
    "enlarge": "放大",
    "fit to the page": "适合页面",
    "The brief's table, measured": "原文的表格，附实测值",
    "Delta and p of each part": "各部分的 delta 与 p 值",
    "First lines, and those marked as claimed, are the brief's own words; the numbers below them "
    "were measured.":
        "每格首行以及标有“原文所称”的是原文的说法，其下的数字为实测值。",
    "Intervals of each variant are 95 % intervals of its own mean; those of the difference {contrast} "
    "are taken at {level}, so that all of their family hold together at 95 %. Supported, opposite, "
    "higher, lower: the interval lies beyond delta, and the adjusted sign-flip p is at most 0.05. "
    "Negligible: it lies within ± delta. Shown, size open: it excludes zero, but not delta. Deltas are "
    "fixed in the suite.":
        "各变体的区间是其自身均值的 95 % 区间；差值 {contrast} 的区间取 {level}，使同族区间以 95 % 的概率同时"
        "成立。成立、方向相反、更高、更低：区间越过 delta，且校正后的符号翻转检验 p 值不超过 0.05。可忽略：区间在"
        " ±delta 之内。已证实，大小未定：区间不含零，但含 delta。delta 在套件中事先固定。",
    "A failure that no pair of {n} shows may still occur in up to {rate} of seeds (95 %).":
        "{n} 对中未出现的失败仍可能发生在至多 {rate} 的种子上（95 %）。",
    "{measure}, over environments in general: {interval}.": "{measure}，就一般环境而言：{interval}。",
    "Nothing is said of environments in general: that takes {n} environments.":
        "对一般环境不下结论：那需要 {n} 个环境。",
    "One family over {n} claims × environments: each environment is judged by itself, at {level}, so "
    "that all hold together at 95 %.":
        "{n} 个“论断 × 环境”为一族：每个环境单独判定，区间取 {level}，以 95 % 的概率同时成立。",
    "Whether the environments differ is Welch's F test of each measure, unadjusted.":
        "各环境是否不同由每个度量的 Welch F 检验给出，未校正。",
    "Verdicts by environment": "各环境的结论",
    "Verdicts": "结论",
    "do they differ?": "各环境是否不同？",
    "What would decide it": "怎样才能得出结论",
    "Too few pairs have finished for their spread to be known.": "完成的配对太少，无法得知其离散程度。",
    "From the spread of this suite's own pairs: the smallest effect that they show with 80 % power at "
    "the level of their family (–: too few pairs for any), the pairs of one environment that "
    "an effect of delta takes, and the hours that those would take at what these cells took, one after "
    "another. A family of fewer claims, named in the suite beforehand, takes fewer.":
        "由本套件自身配对的离散程度得出：在其族的水平上以 80 % 的功效能够证实的最小效应（–：对数太少，无法证实任何效应）、证实 delta 大小的效应"
        "在一个环境中所需的对数，以及按这些单元的用时（依次运行）所需的小时数。在套件中事先指定较少的论断，"
        "所需更少。",
    "smallest effect shown": "可证实的最小效应",
    "pairs for delta": "delta 所需对数",
    "hours": "小时",
    "Seeds are added until the claims are decided or the plan is used up. The looks and what error each may "
    "spend were fixed in the suite; intervals hold at all looks together, and a claim that a look has decided stays as that look "
    "left it.":
        "种子逐步增加，直至得出结论或计划用尽。各次查看及其可用的误差在套件中事先固定；区间在所有查看中同时成立，某次查看"
        "已得出的结论保持不变。",
    "Looks": "逐次查看",
    "seeds": "种子",
    "level of an interval": "区间水平",
    "decided": "已决",
    "open": "未决",
    "interval": "区间",
    "t": "t",
    "bootstrap-t": "bootstrap-t",
    "–": "–",
    "claimed": "原文所称",
    "p (adjusted)": "p（校正）",
    "failed seeds": "失败的种子",
    "A seed has failed where it ends less than delta ({delta} points) above its untrained score.":
        "若最终得分高出未训练时不足 delta（{delta} 分），则该种子为失败。",
    "Only {names} is tested; the rest is exploratory.": "只检验 {names}，其余均为探索性结果。",
    "Nothing is tested; all of it is exploratory.": "没有检验，全部为探索性结果。",
    "probability of scoring above `{control}` [95 %]": "得分高于 {control} 的概率 [95 %]",
    "**Data sets** are not drawn anew with each seed here, so the intervals are over training seeds, "
    "not over data sets.":
        "**数据集**在此并不随种子重新生成，因此区间针对训练种子，而非数据集。",
    "measure": "度量",
    "higher": "更高",
    "lower": "更低",
    "delta": "delta",
    "pairs": "对数",
    "p": "p",
    "points": "分",
    "points²": "分²",
    "R²": "R²",
    "gain": "增益",
    "Did anything learn?": "学到东西了吗？",
    "No finished cell has an untrained score, so there is nothing to say.": "没有完成的单元有未训练时的得分，无从比较。",
    "environment": "环境",
    "variant": "变体",
    "cells": "单元数",
    "untrained": "未训练",
    "final": "最终",
    "clear of zero": "明显不为零",
    "all": "全部",
    "yes": "是",
    "worse": "变差",
    "not clear": "不明显",
    "unknown": "未知",
    "Figures": "图",
    "All variants": "所有变体",
    "final score [95 %]": "最终得分 [95 %]",
    "IQM": "IQM",
    "best evaluation": "最佳评估",
    "Likeness of features": "特征的相似度",
    "and": "与",
    "linear CKA of their features [95 %]": "两者特征的线性 CKA [95 %]",
    "By environment": "各环境单独的结果",
    "Also reported": "其他度量",
    "Described, never judged; 95 % intervals, each on its own.": "仅作描述，不下结论；各自为 95 % 区间。",
    "No pair has finished, so there is nothing to describe.": "没有完成的配对，无可描述。",
    "Cost": "开销",
    "No cell has finished, so nothing is known of its cost.": "没有完成的单元，开销未知。",
    "The diagnostics took {share} of the cells' wall time; {limit} is what they are meant to stay "
    "under at the default cadence.":
        "诊断占单元运行时间的 {share}；在默认频率下应低于 {limit}。",
    "What the diagnostics took was not recorded for every cell.": "并非每个单元都记录了诊断所用的时间。",
    "an update, ms": "每次更新（毫秒）",
    "a cell, s": "每个单元（秒）",
    "of which training": "其中训练",
    "evaluation": "评估",
    "diagnostics": "诊断",
    "What could not be done": "未能完成的部分",
    "{done} of {planned} cells are done.": "{planned} 个单元中已完成 {done} 个。",
    "failed: {cell}": "失败：{cell}",
    "missing: {cell}": "缺失：{cell}",
    "missing: {env} {variant}, all {n} seeds": "缺失：{env} {variant}，全部 {n} 个种子",
    "left out: {env}": "未运行：{env}",
    "not scored: {env}, as there is no environment to play it in":
        "未计分：{env}，因为没有可供评估的环境",
    "not measured: {measure}": "未测量：{measure}",
    "no data for the figure: {title}": "此图没有数据：{title}",
    "How it is measured": "如何测量",
    "Provenance": "来源",
    "No cell has finished.": "没有完成的单元。",
    "Agent: {names}. Where this report speaks of the VAE, it means the loss in the VAE's place: "
    "the one that imitates the data's actions.":
        "智能体：{names}。本报告所说的 VAE 指处于该位置的损失，即模仿数据动作的那一个。",
    "Data": "数据",
    "data set": "数据集",
    "sha256": "sha256",
    "wall time: {hours} h over {n} cells": "运行时间：{n} 个单元共 {hours} 小时",
    "versions": "版本",
    "commit": "提交",
    "devices": "设备",
    "not recorded": "未记录",
    "; {n} cells ran with uncommitted changes": "；{n} 个单元运行时有未提交的改动",
    "{device} ({name}), {threads} thread(s), {n} cells":
        "{device}（{name}），{threads} 个线程，{n} 个单元",
    "Make this report again with `{command}`.": "重新生成本报告：`{command}`。",
    "**Feature quality** is the state probe's gain: (R² − R² untrained) / (R² oracle − R² "
    "untrained), so 0 is the untrained encoder and 1 the same encoder trained on the simulator's "
    "state. Its delta is on that scale.":
        "**特征质量**是状态探针的增益：(R² − 未训练 R²) / (oracle R² − 未训练 R²)。0 为未训练的编码器，"
        "1 为同一编码器以模拟器状态训练的结果。delta 采用同一尺度。",
    "**Feature quality** is the state probe's R² itself, not its gain between an untrained encoder "
    "and an oracle, because not every pair has an oracle at least 0.1 R² above the untrained one.":
        "**特征质量**是状态探针的 R² 本身，而不是介于未训练编码器与 oracle 之间的增益，因为并非每一对都有"
        "比未训练编码器至少高 0.1 R² 的 oracle。",
    "**Q prediction** is the error of Q against Monte-Carlo returns of each variant's own policy, "
    "from one set of held-out states and actions. The score stands beside it: the value of a "
    "policy that does nothing is easy to predict.":
        "**Q值预测**是 Q 相对于各变体自身策略的蒙特卡洛回报的误差，取自同一组留出的状态与动作。旁边列出得分："
        "什么都不做的策略，其价值很容易预测。",
    "**Q prediction** is the error against the **behaviour's** returns, on held-out transitions. The "
    "Q that is measured is the latent policy's, so the behaviour's returns are not its truth: a "
    "better policy rightly disagrees with them. It is not the error against the policy's own "
    "returns, which not every pair has.":
        "**Q值预测**是在留出数据上相对于**行为策略**回报的误差。所测的 Q 属于潜在策略，行为策略的回报并不是"
        "它的真值：更好的策略理应与之不同。这不是相对于自身策略回报的误差，因为并非每一对都有后者。",
    "**The TD error** is consistency with itself, which a Q that is the same everywhere also has.":
        "**TD 误差**衡量的是 Q 与自身是否一致，处处相同的 Q 也能做到。",
    "**Convergence speed** counts updates, not seconds.": "**收敛速度**按更新次数计，而非按秒计。",
    "**Stability** is the variance of the changes of the score between evaluations in the second "
    "half of training; what the spread between evaluation episodes explains is taken out, so it is "
    "0 in the mean where a policy stands still, and a single cell's may lie below.":
        "**稳定性**是训练后半程相邻评估之间得分变化的方差；评估回合之间的离散所能解释的部分已被扣除，"
        "因此策略不变时其均值为 0，单个单元的值可能小于 0。",
    "Gradient flow": "梯度流向",
    "The brief's loop as it ran: what became of each loss's gradient, from the ledger of watched "
    "steps. Solid: applied by an optimizer. Dashed: computed, then dropped by a `zero_grad`. No arrow: "
    "not computed. A box is filled where the module was stepped by it.":
        "原文的训练循环的实际运行：各损失的梯度去向，取自梯度账本。实线：被优化器应用；虚线：算出后被 "
        "`zero_grad` 丢弃；无箭头：未计算。实心方框表示该模块因此被更新。",
    "Score over training": "训练期间的得分",
    "Mean over seeds with its 95 % t interval; thin lines are seeds. Update 0 is untrained.":
        "各种子的均值及其 95 % t 区间；细线为单个种子。第 0 次更新即未训练。",
    "Q error over training": "训练期间的 Q 误差",
    "Q against the returns of the policy that the axis names, its own where it was rolled out more "
    "than once (the behaviour's are not the measured policy's truth), and the TD error. Held-out rows, "
    "over the spread of the data's returns; 95 % bands.":
        "Q 相对于坐标轴所标策略的回报：多次推演时为自身策略（行为策略的回报并不是所测策略的真值），以及 TD 误差。"
        "留出数据，以数据回报的标准差为单位；95 % 区间带。",
    "Signal strength on the encoder": "编码器上的信号强度",
    "Norms of both losses' gradients on the encoder, whether applied or not: geometric means over "
    "seeds, 95 % bands. Shaded: the ranges that the brief claims (0.01 to 0.1 for the critic's, "
    "0.001 to 0.01 for the VAE's).":
        "两个损失在编码器上的梯度范数，无论是否被应用：各种子的几何均值与 95 % 区间带。阴影为原文所称的范围"
        "（critic 为 0.01 至 0.1，VAE 为 0.001 至 0.01）。",
    "Probes over training": "训练期间的探针",
    "R² of ridge probes from frozen features, split by episode; 95 % bands over seeds. Dotted: a "
    "return probe that sees only the time index. Values below −1 say nothing and are left out.":
        "冻结特征上的岭回归探针的 R²，按回合划分；95 % 区间带。点线：仅见时间步的回报探针。低于 −1 的值说明不了"
        "什么，已略去。",
    "Paired differences of the final score": "最终得分的配对差值",
    "A dot a pair; a diamond is a mean with its 95 % interval (unadjusted). Grey band: within delta "
    "of zero.":
        "每点为一对；菱形为均值及其 95 % 区间（未校正）。灰带：距零不超过 delta。",
    "Performance profile": "性能曲线",
    "Share of the finished cells, over all environments, whose final score is above τ.":
        "所有环境中最终得分高于 τ 的已完成单元的比例。",
    "Probability of improvement": "改进概率",
    "Chance that a run of the variant scores above one of the control, mean over environments, with "
    "its 95 % bootstrap interval.":
        "该变体的一次运行得分高于对照变体的概率，各环境均值，附 95 % 自助法区间。",
    "**Data sets** are drawn anew with each seed, so the intervals are over training seeds and data "
    "sets together.": "**数据集**随每个种子重新生成，因此区间同时涵盖训练种子与数据集。",
    "Of the variance of the final score's differences on {env}, {share} is evaluation noise, at {n} "
    "fresh episodes a cell; it is meant to stay under {limit} (`evaluate.final_episodes`).":
        "在 {env} 上，最终得分差值的方差中有 {share} 是评估噪声（每个单元 {n} 个新回合）；目标是低于 {limit}"
        "（`evaluate.final_episodes`）。",
    "Does it depend on the condition?": "结论是否取决于条件？",
    "The difference of each judged measure in every environment under every condition, with the "
    "interval at the level of its family: all of them hold together at 95 %. Grey band: within "
    "delta of zero.":
        "每个判定指标在各环境、各条件下的差值及其族水平的区间：全部区间同时以 95 % 成立。灰带：距零不超过 delta。",
    "A seed draws the same weights, batches and episodes under every condition, so that its "
    "differences are compared within the seed: the p of the largest departure from the mean "
    "over the conditions, signs flipped by seed, adjusted over this table (Holm). The mean "
    "over all counts a seed once, whatever the number of its conditions.":
        "同一种子在各条件下有相同的权重、批次与回合，因此差值在种子内比较：p 值针对偏离各条件均值最大的条件，"
        "按种子翻转符号，并对本表校正（Holm）。总均值中每个种子只计一次，与条件数无关。",
    "does it depend?": "是否取决于条件？", "it depends": "取决于条件", "no sign of it": "未见迹象",
    "not known": "未知",
    "Cost by variant": "各变体的开销",
    "Left: the median update. Right: a cell's wall time by what it went to.":
        "左：每次更新的中位时间。右：单元运行时间的构成。",
}  # fmt: skip
"""Everything else that the report says."""
