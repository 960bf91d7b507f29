"""The globals that an honest checkpoint may name, as exact pairs of module and name: no prefix, no pattern.

Being here means one thing only: a pickle that names it is not reported for it. Nothing here is imported or called
either. The kinds of numbers and of storages are those of torch 2.13 (`torch/storage.py`, `_dtype_to_storage_type_map`
and `_new_dtypes`) and of older ones as far as it still loads them; the classes of `torch.nn` are all that it has.
"""

from jaynes_audit.analyzers.checkpoints.pytorch.objects import Element, Global
from jaynes_audit.analyzers.dtypes import Dtype

_PACKED = "it is packed more than one to a byte, in a way that only PyTorch reads"
_BITS = "its bits have no meaning as numbers"

_ELEMENTS: tuple[Element, ...] = (
    Element("bool", Dtype.BOOL, 1),
    Element("uint8", Dtype.U8, 1),
    Element("int8", Dtype.I8, 1),
    Element("int16", Dtype.I16, 2),
    Element("uint16", Dtype.U16, 2),
    Element("int32", Dtype.I32, 4),
    Element("uint32", Dtype.U32, 4),
    Element("int64", Dtype.I64, 8),
    Element("uint64", Dtype.U64, 8),
    Element("float16", Dtype.F16, 2),
    Element("bfloat16", Dtype.BF16, 2),
    Element("float32", Dtype.F32, 4),
    Element("float64", Dtype.F64, 8),
    Element("complex32", Dtype.C32, 4),
    Element("complex64", Dtype.C64, 8),
    Element("complex128", Dtype.C128, 16),
    Element("float8_e4m3fn", Dtype.F8_E4M3, 1),
    Element("float8_e5m2", Dtype.F8_E5M2, 1),
    Element("float8_e4m3fnuz", Dtype.F8_E4M3FNUZ, 1),
    Element("float8_e5m2fnuz", Dtype.F8_E5M2FNUZ, 1),
    Element("float8_e8m0fnu", Dtype.F8_E8M0, 1),
    Element("float4_e2m1fn_x2", Dtype.F4, 1),
    Element("qint8", Dtype.I8, 1, quantised=True),
    Element("quint8", Dtype.U8, 1, quantised=True),
    Element("qint32", Dtype.I32, 4, quantised=True),
    Element("quint4x2", None, 1, _PACKED, quantised=True),
    Element("quint2x4", None, 1, _PACKED, quantised=True),
    Element("bits1x8", None, 1, _BITS),
    Element("bits2x4", None, 1, _BITS),
    Element("bits4x2", None, 1, _BITS),
    Element("bits8", None, 1, _BITS),
    Element("bits16", None, 2, _BITS),
)

ELEMENTS: dict[Global, Element] = {Global("torch", element.name): element for element in _ELEMENTS}
"""What `torch.float32` and its like stand for."""

_STORAGES: dict[str, str] = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}

STORAGES: dict[Global, Element] = {
    **{
        Global(module, name): ELEMENTS[Global("torch", element)]
        for module in ("torch", "torch.cuda")
        for name, element in _STORAGES.items()
    },
    **{
        Global(module, name): ELEMENTS[Global("torch", "uint8")]
        for module, name in (
            ("torch", "UntypedStorage"),
            ("torch.storage", "UntypedStorage"),
            ("torch.storage", "_UntypedStorage"),
        )
    },
}
"""The kinds of storages, each with the numbers that it holds. An untyped one holds bytes."""

QUANTISERS_OF_ALL = frozenset({Global("torch", "per_tensor_affine"), Global("torch", "per_tensor_symmetric")})
QUANTISERS_OF_CHANNELS = frozenset(
    {
        Global("torch", "per_channel_affine"),
        Global("torch", "per_channel_symmetric"),
        Global("torch", "per_channel_affine_float_qparams"),
    }
)

_INERT: dict[str, str] = {
    "_codecs": "encode",
    "argparse": "Namespace",
    "builtins": "bool bytearray bytes complex dict Ellipsis float frozenset int list long NotImplemented object range "
    "set slice str tuple unicode xrange",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "_reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "typing": "Any",
    "uuid": "SafeUUID UUID",
    "numpy": "bool bool_ dtype float16 float32 float64 int8 int16 int32 int64 ndarray str_ uint8 uint16 uint32 uint64",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.dtypes": "BoolDType Float16DType Float32DType Float64DType Int8DType Int16DType Int32DType Int64DType "
    "StrDType UInt8DType UInt16DType UInt32DType UInt64DType",
    "torch": "BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor ShortTensor "
    "Size Tensor device Generator",
    "torch._C": "Generator",
    "torch._dynamo.decorators": "_DimRange",
    "torch._tensor": "_rebuild_from_type _rebuild_from_type_v2",
    "torch.tensor": "_rebuild_from_type _rebuild_from_type_v2",
    "torch._utils": "_rebuild_device_tensor_from_cpu_tensor _rebuild_device_tensor_from_numpy "
    "_rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_parameter _rebuild_parameter_with_state "
    "_rebuild_qtensor _rebuild_sparse_csr_tensor _rebuild_sparse_tensor _rebuild_tensor _rebuild_tensor_v2 "
    "_rebuild_tensor_v3 _rebuild_wrapper_subclass _rebuild_xla_tensor",
    "torch.distributed.checkpoint.filesystem": "_StorageInfo _StoragePrefix",
    "torch.distributed.checkpoint.metadata": "_MEM_FORMAT_ENCODING BytesStorageMetadata ChunkStorageMetadata Metadata "
    "MetadataIndex StorageMeta TensorProperties TensorStorageMetadata",
    "torch.distributed.device_mesh": "DeviceMesh",
    "torch.distributed.tensor": "DTensor",
    "torch.distributed.tensor._api": "DTensor",
    "torch.distributed.tensor._dtensor_spec": "DTensorSpec TensorMeta",
    "torch.distributed.tensor.placement_types": "Partial Replicate Shard",
    "torch.jit._pickle": "build_boollist build_doublelist build_intlist build_tensor_from_id build_tensorlist "
    "restore_type_tag",
    "torch.nested._internal.nested_tensor": "NestedTensor _rebuild_njt",
    "torch.nn.modules.activation": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid "
    "LogSoftmax Mish MultiheadAttention PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus "
    "Softshrink Softsign Tanh Tanhshrink Threshold",
    "torch.nn.modules.adaptive": "AdaptiveLogSoftmaxWithLoss",
    "torch.nn.modules.batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d "
    "SyncBatchNorm",
    "torch.nn.modules.channelshuffle": "ChannelShuffle",
    "torch.nn.modules.container": "Container ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "torch.nn.modules.conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyConv1d "
    "LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d",
    "torch.nn.modules.distance": "CosineSimilarity PairwiseDistance",
    "torch.nn.modules.dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "torch.nn.modules.flatten": "Flatten Unflatten",
    "torch.nn.modules.fold": "Fold Unfold",
    "torch.nn.modules.instancenorm": "InstanceNorm1d InstanceNorm2d InstanceNorm3d LazyInstanceNorm1d "
    "LazyInstanceNorm2d LazyInstanceNorm3d",
    "torch.nn.modules.linear": "Bilinear Identity LazyLinear Linear NonDynamicallyQuantizableLinear",
    "torch.nn.modules.loss": "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss "
    "HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss LinearCrossEntropyLoss MSELoss MarginRankingLoss "
    "MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d PoissonNLLLoss SmoothL1Loss "
    "SoftMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss",
    "torch.nn.modules.module": "Module",
    "torch.nn.modules.normalization": "CrossMapLRN2d GroupNorm LayerNorm LocalResponseNorm RMSNorm",
    "torch.nn.modules.padding": "CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d "
    "ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d ZeroPad1d "
    "ZeroPad2d ZeroPad3d",
    "torch.nn.modules.pixelshuffle": "PixelShuffle PixelUnshuffle",
    "torch.nn.modules.pooling": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d "
    "AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d FractionalMaxPool2d FractionalMaxPool3d "
    "LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d",
    "torch.nn.modules.rnn": "GRU GRUCell LSTM LSTMCell RNN RNNBase RNNCell RNNCellBase",
    "torch.nn.modules.sparse": "Embedding EmbeddingBag",
    "torch.nn.modules.transformer": "Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder "
    "TransformerEncoderLayer",
    "torch.nn.modules.upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    "torch.nn.parameter": "Buffer Parameter",
    "torch.serialization": "_get_layout",
    "accelerate.state": "PartialState",
    "accelerate.utils.dataclasses": "DistributedType",
    "deepspeed.runtime.fp16.loss_scaler": "DynamicLossScaler LossScaler",
    "deepspeed.runtime.zero.config": "ZeroStageEnum",
    "deepspeed.utils.tensor_fragment": "fragment_address",
    "lightning_fabric.utilities.data": "AttributeDict",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode FloatNode IntegerNode StringNode",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "transformers.trainer_pt_utils": "AcceleratorConfig",
    "transformers.trainer_utils": "HubStrategy IntervalStrategy SaveStrategy SchedulerType",
    "transformers.training_args": "OptimizerNames TrainingArguments",
    "transformers.training_args_seq2seq": "Seq2SeqTrainingArguments",
}
"""Classes that hold data, and the functions that make tensors, by module."""

KNOWN: frozenset[Global] = frozenset(
    {
        *ELEMENTS,
        *STORAGES,
        *QUANTISERS_OF_ALL,
        *QUANTISERS_OF_CHANNELS,
        *(Global(module, name) for module, names in _INERT.items() for name in names.split()),
    }
)
