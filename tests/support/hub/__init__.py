"""A Hub and its CDN on the loopback interface, for the real huggingface_hub client and everything built on it.

    with LoopbackHub() as hub:
        sha = hub.commit("org/model", {"config.json": b"{}", "model.safetensors": Path("x.safetensors")})
        hub.fault(host="cdn", times=2, status=503, headers={"Retry-After": "0"})
        HfApi(endpoint=hub.endpoint).model_info("org/model")
        assert not [record for record in hub.log if record.host == "cdn" and record.authorization]

As in reality there are two origins, a large file is got from a signed address at the second one, and a small file from
another address at the first. Nothing leaves the machine, and files of any size can be served that are stored nowhere.
"""

from tests.support.hub.faults import FOR_EVER, Fault, PlannedFault
from tests.support.hub.loopback import LoopbackHub
from tests.support.hub.synthetic import Synthetic, gaussian_bf16, synthetic_checkpoint

__all__ = ["FOR_EVER", "Fault", "LoopbackHub", "PlannedFault", "Synthetic", "gaussian_bf16", "synthetic_checkpoint"]
