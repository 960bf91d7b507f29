"""The roles a tensor can play, and how each of them is audited."""

from enum import StrEnum


class Role(StrEnum):
    """What a tensor does in its network: the same word for the same function in every family.

    A gate is what passes through the non-linearity, an up projection what is multiplied by it or stands alone; so the
    first layer of a plain feed-forward network is `mlp.up`. Of two matrices that make one through a narrow waist,
    `_a` leads into the waist and `_b` out of it. A fused role (`attention.qkv`, `mlp.gate_up`, `ssm.in`) is given
    only to a tensor that could not be taken apart.
    """

    EMBEDDING = "embedding"
    POSITION_EMBEDDING = "position_embedding"
    PATCH_EMBEDDING = "patch_embedding"
    TIME_EMBEDDING = "time_embedding"
    HEAD = "head"
    POOLER = "pooler"

    ATTENTION_Q = "attention.q"
    ATTENTION_K = "attention.k"
    ATTENTION_V = "attention.v"
    ATTENTION_O = "attention.o"
    ATTENTION_GATE = "attention.gate"
    ATTENTION_QKV = "attention.qkv"
    ATTENTION_Q_A = "attention.q_a"
    ATTENTION_Q_B = "attention.q_b"
    ATTENTION_KV_A = "attention.kv_a"
    ATTENTION_K_B = "attention.k_b"
    ATTENTION_V_B = "attention.v_b"
    CROSS_ATTENTION_Q = "cross_attention.q"
    CROSS_ATTENTION_K = "cross_attention.k"
    CROSS_ATTENTION_V = "cross_attention.v"
    CROSS_ATTENTION_O = "cross_attention.o"
    CROSS_ATTENTION_QKV = "cross_attention.qkv"

    MLP_GATE = "mlp.gate"
    MLP_UP = "mlp.up"
    MLP_DOWN = "mlp.down"
    MLP_GATE_UP = "mlp.gate_up"
    EXPERT_GATE = "expert.gate"
    EXPERT_UP = "expert.up"
    EXPERT_DOWN = "expert.down"
    EXPERT_GATE_UP = "expert.gate_up"
    ROUTER = "router"

    SSM_X = "ssm.x"
    SSM_Z = "ssm.z"
    SSM_B = "ssm.b"
    SSM_C = "ssm.c"
    SSM_DT = "ssm.dt"
    SSM_DT_A = "ssm.dt_a"
    SSM_DT_B = "ssm.dt_b"
    SSM_IN = "ssm.in"
    SSM_CONV = "ssm.conv"
    SSM_OUT = "ssm.out"
    SSM_A_LOG = "ssm.a_log"
    SSM_D = "ssm.d"

    CONV = "conv"
    MODULATION = "modulation"
    PROJECTION = "projection"
    LORA_A = "lora.a"
    LORA_B = "lora.b"
    OTHER = "other"

    NORM = "norm"
    BIAS = "bias"
    SCALE = "scale"
    BUFFER = "buffer"


# Where the network begins and ends: weight matrices that are audited apart from the hidden layers.
ENDS = frozenset(
    {
        Role.EMBEDDING,
        Role.POSITION_EMBEDDING,
        Role.PATCH_EMBEDDING,
        Role.TIME_EMBEDDING,
        Role.HEAD,
        Role.POOLER,
    }
)

LOOKED_UP = frozenset({Role.EMBEDDING, Role.POSITION_EMBEDDING})  # one row for each entry of a table

# No weight matrices: gains, offsets, decay rates, masks. They have no fan-in.
GAINS_AND_BUFFERS = frozenset({Role.NORM, Role.BIAS, Role.SCALE, Role.BUFFER, Role.SSM_A_LOG, Role.SSM_D})

# Shown under their own role only. A router is a matrix, but it chooses among experts rather than carrying the signal.
KEPT = GAINS_AND_BUFFERS | {Role.ROUTER}

# The layers of the audit, once they have a fan-in; a tensor of one axis has none and is no layer whatever its role.
HIDDEN_LAYERS = frozenset(Role) - ENDS - KEPT

CROSS_ATTENTION = {
    Role.ATTENTION_Q: Role.CROSS_ATTENTION_Q,
    Role.ATTENTION_K: Role.CROSS_ATTENTION_K,
    Role.ATTENTION_V: Role.CROSS_ATTENTION_V,
    Role.ATTENTION_O: Role.CROSS_ATTENTION_O,
    Role.ATTENTION_QKV: Role.CROSS_ATTENTION_QKV,
}

EXPERT = {
    Role.MLP_GATE: Role.EXPERT_GATE,
    Role.MLP_UP: Role.EXPERT_UP,
    Role.MLP_DOWN: Role.EXPERT_DOWN,
    Role.MLP_GATE_UP: Role.EXPERT_GATE_UP,
}
