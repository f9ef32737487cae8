"""CanKD's loss written out with the positions × positions matrix: what the project's own form is compared with."""

import torch.nn.functional as F


def written_out_loss(head, level, student, teacher):
    """Evaluates one level of a :class:`cankd.modeling.CanKDHead`, formula by formula, with the head's parameters.

    Args:
        head: the head.
        level: its level.
        student, teacher: features, ``(N, C, H, W)``.

    Returns:
        The weighted loss.
    """
    module = head.non_local[level]
    pool = module.pool_size

    def pooled(x):
        return (F.max_pool2d(x, pool) if pool > 1 else x).flatten(2)

    if module.affinity == "linear":
        return _compare(head, module, student, module.theta(student), teacher)
    value = pooled(module.g(teacher))  # (N, C', M)
    positions = value.shape[2]
    if module.affinity == "gaussian":
        affinity = (student.flatten(2).mT @ pooled(teacher)).softmax(-1)
    else:
        query = module.theta(student).flatten(2)
        key = pooled(module.phi(teacher))
        if module.affinity == "dot_product":
            affinity = query.mT @ key / positions
        elif module.affinity == "embedded_gaussian":
            affinity = (query.mT @ key).softmax(-1)
        else:
            student_weight, teacher_weight = module.concat.weight.flatten().chunk(2)
            affinity = ((student_weight @ query)[..., None] + (teacher_weight @ key)[:, None]).relu() / positions
    attended = (affinity @ value.mT).mT.reshape(*value.shape[:2], *student.shape[2:])
    return _compare(head, module, student, attended, teacher)


def _compare(head, module, student, attended, teacher):
    fused = module.norm(module.out(attended))
    if module.residual:
        fused = fused + student
    if head.instance_norm:
        fused, teacher = F.instance_norm(fused), F.instance_norm(teacher)
    return head.weight * (fused - teacher).square().mean()
