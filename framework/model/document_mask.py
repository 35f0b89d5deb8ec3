"""Documents that share a row and do not see each other.

A document begins with end-of-text (E), as ``framework.data.stream`` cuts rows and as a prompt begins. What each token of a row
sees (Krell et al. 2021, arXiv:2107.02027), and where it stands::

    input_ids      7 8 E 5 6 E 9
    position_ids   0 1 0 1 2 0 1
    sees           7
                   7 8
                       E
                       E 5
                       E 5 6
                             E
                             E 9
"""

from __future__ import annotations

import torch


def document_arguments(input_ids: torch.Tensor, first_token_id: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Keyword arguments for a transformer of transformers.

    The mask is added to attention's scores: all layers then share the one tensor, where torch would make one of its own in each
    from true and false, and keep it for the backward pass.

    Args:
        input_ids: [batch, sequence] int64.
        first_token_id: what every document begins with.
        dtype: of the attention's scores.

    Returns:
        ``attention_mask`` [batch, 1, sequence, sequence] of ``dtype``, 0 where the row's token sees the column's, else the least
        number; ``position_ids`` [batch, sequence] int64, from 0 in each document.
    """
    documents = (input_ids == first_token_id).cumsum(-1)
    places = torch.arange(input_ids.shape[-1], device=input_ids.device)
    sees = (documents.unsqueeze(-1) == documents.unsqueeze(-2)) & (places.unsqueeze(-1) >= places)
    mask = torch.zeros_like(sees, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    return {"attention_mask": mask.unsqueeze(1), "position_ids": sees.sum(-1) - 1}
