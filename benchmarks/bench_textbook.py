"""The forms that most repositories have of our operators: what somebody would write or copy in place of them."""

import torch
from torch import Tensor, nn

from bixt3d.nn.grouping import GroupBlock


def farthest_points(xyz: Tensor, num_points: int) -> Tensor:
    """Return farthest points by one (B, N, 3) difference for each sample."""
    batch = torch.arange(len(xyz), device=xyz.device)
    index = torch.zeros(len(xyz), num_points, dtype=torch.long, device=xyz.device)
    distance = torch.full(xyz.shape[:2], 1e10, device=xyz.device)
    farthest = torch.zeros(len(xyz), dtype=torch.long, device=xyz.device)
    for i in range(num_points):
        index[:, i] = farthest
        distance = torch.minimum(distance, ((xyz - xyz[batch, farthest][:, None]) ** 2).sum(-1))
        farthest = distance.max(-1)[1]
    return index


def knn(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Return neighbors by all squared distances, from a matrix product, then topk."""
    distance = (queries**2).sum(-1)[:, :, None] - 2 * queries @ points.transpose(1, 2) + (points**2).sum(-1)[:, None]
    return distance.topk(num_neighbors, largest=False)[1]


def knn_by_cdist(queries: Tensor, points: Tensor, num_neighbors: int) -> Tensor:
    """Return neighbors by torch.cdist, then topk."""
    return torch.cdist(queries, points).topk(num_neighbors, largest=False)[1]


class Grouping(nn.Module):
    """PointMLP's affine grouping, every neighbor stored: gather, subtract, scale, concatenate, Linear, BN, ReLU, max.

    Has the weights of a GroupBlock without residual blocks.
    """

    def __init__(self, block: GroupBlock):
        super().__init__()
        linear = block.group.linear
        self.scale = nn.Parameter(block.group.scale.detach().clone())
        self.shift = nn.Parameter(block.group.shift.detach().clone())
        self.linear = nn.Conv1d(linear.in_features, linear.out_features, 1, bias=False)
        self.norm = nn.BatchNorm1d(linear.out_features)
        self.linear.weight.data.copy_(linear.weight[:, :, None])
        self.norm.load_state_dict(block.norm.state_dict())

    def forward(self, feats: Tensor, neighbor_index: Tensor) -> Tensor:
        """Return groups (B, G, D) of features (B, G, D) and neighbors (B, G, K): every point is a centroid."""
        num_clouds, num_groups, num_neighbors = neighbor_index.shape
        batch = torch.arange(num_clouds, device=feats.device)[:, None, None]
        grouped, centroids = feats[batch, neighbor_index], feats[:, :, None]
        std = (grouped - centroids).reshape(num_clouds, -1).std(-1)[:, None, None, None]
        grouped = self.scale * ((grouped - centroids) / (std + 1e-5)) + self.shift
        grouped = torch.cat([grouped, centroids.expand(-1, -1, num_neighbors, -1)], -1)
        grouped = grouped.flatten(0, 1).transpose(1, 2)  # (B * G, 2 * D, K), as PointMLP has it
        return self.norm(self.linear(grouped)).relu().amax(2).unflatten(0, (num_clouds, num_groups))
