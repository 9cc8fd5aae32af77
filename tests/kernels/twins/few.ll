; ModuleID = "few"
target triple = "x86_64-unknown-linux-gnu"
target datalayout = ""

define void @"task"(ptr noundef %".1", i64 noundef %".2", i64 noundef %".3") noinline
{
entry:
  %".5" = getelementptr inbounds ptr, ptr %".1", i64 2
  %".6" = load ptr, ptr %".5", align 8
  %".7" = getelementptr inbounds ptr, ptr %".1", i64 3
  %".8" = load ptr, ptr %".7", align 8
  %".9" = getelementptr inbounds ptr, ptr %".1", i64 4
  %".10" = load ptr, ptr %".9", align 8
  %".11" = getelementptr inbounds ptr, ptr %".1", i64 5
  %".12" = load ptr, ptr %".11", align 8
  %".13" = getelementptr inbounds ptr, ptr %".1", i64 6
  %".14" = load ptr, ptr %".13", align 8
  %".15" = getelementptr inbounds ptr, ptr %".1", i64 7
  %".16" = load ptr, ptr %".15", align 8
  %".17" = getelementptr inbounds ptr, ptr %".1", i64 8
  %".18" = load ptr, ptr %".17", align 8
  %".19" = getelementptr inbounds ptr, ptr %".1", i64 9
  %".20" = load ptr, ptr %".19", align 8
  %".21" = getelementptr inbounds ptr, ptr %".1", i64 10
  %".22" = load ptr, ptr %".21", align 8
  %".23" = getelementptr inbounds i64, ptr %".1", i64 11
  %".24" = load i64, ptr %".23", align 8
  %".25" = getelementptr inbounds i64, ptr %".1", i64 12
  %".26" = load i64, ptr %".25", align 8
  %".27" = getelementptr inbounds i64, ptr %".1", i64 13
  %".28" = load i64, ptr %".27", align 8
  %".29" = getelementptr inbounds i64, ptr %".1", i64 14
  %".30" = load i64, ptr %".29", align 8
  %".31" = getelementptr inbounds i64, ptr %".1", i64 15
  %".32" = load i64, ptr %".31", align 8
  %".33" = getelementptr inbounds i64, ptr %".1", i64 16
  %".34" = load i64, ptr %".33", align 8
  %".35" = getelementptr inbounds i64, ptr %".1", i64 17
  %".36" = load i64, ptr %".35", align 8
  %".37" = getelementptr inbounds i64, ptr %".1", i64 18
  %".38" = load i64, ptr %".37", align 8
  %".39" = getelementptr inbounds i64, ptr %".1", i64 19
  %".40" = load i64, ptr %".39", align 8
  %".41" = getelementptr inbounds i64, ptr %".1", i64 20
  %".42" = load i64, ptr %".41", align 8
  %".43" = getelementptr inbounds i64, ptr %".1", i64 21
  %".44" = load i64, ptr %".43", align 8
  %".45" = getelementptr inbounds i64, ptr %".1", i64 22
  %".46" = load i64, ptr %".45", align 8
  %".47" = getelementptr inbounds i64, ptr %".1", i64 23
  %".48" = load i64, ptr %".47", align 8
  %".49" = udiv i64 %".2", %".36"
  %".50" = mul i64 %".49", %".36"
  %".51" = sub i64 %".2", %".50"
  %".52" = udiv i64 %".49", %".30"
  %".53" = mul i64 %".52", %".30"
  %".54" = sub i64 %".49", %".53"
  %".55" = alloca [16384 x float], align 64
  %".56" = mul i64 %".52", %".24"
  %".57" = getelementptr inbounds float, ptr %".6", i64 %".56"
  %".58" = add i64 %".44", 2
  %".59" = mul i64 %".51", %".58"
  %".60" = getelementptr inbounds i32, ptr %".16", i64 %".59"
  %".61" = load i32, ptr %".60", align 4
  %".62" = sext i32 %".61" to i64
  %".63" = getelementptr inbounds i32, ptr %".60", i64 1
  %".64" = load i32, ptr %".63", align 4
  %".65" = sext i32 %".64" to i64
  %".66" = getelementptr inbounds i32, ptr %".60", i64 2
  %".67" = getelementptr inbounds i32, ptr %".66", i64 %".62"
  %".68" = load i32, ptr %".67", align 4
  %".69" = sext i32 %".68" to i64
  %".70" = add i64 %".62", %".65"
  br label %"loop"
loop:
  %".72" = phi  i64 [0, %"entry"], [%".200", %"after.1"]
  %".73" = icmp slt i64 %".72", %".42"
  br i1 %".73", label %"body", label %"after"
body:
  %".75" = mul i64 %".72", %".46"
  %".76" = getelementptr inbounds float, ptr %".55", i64 %".75"
  %".77" = mul i64 %".54", %".42"
  %".78" = add i64 %".77", %".72"
  %".79" = getelementptr inbounds i32, ptr %".12", i64 %".78"
  %".80" = load i32, ptr %".79", align 4
  %".81" = sext i32 %".80" to i64
  %".82" = icmp slt i64 %".81", 0
  br i1 %".82", label %"then", label %"else"
after:
  %".202" = mul i64 %".54", %".32"
  %".203" = add i64 %".202", %".32"
  %".204" = icmp slt i64 %".203", %".34"
  %".205" = select  i1 %".204", i64 %".203", i64 %".34"
  %".206" = mul i64 %".51", %".38"
  %".207" = sub i64 %".40", %".38"
  %".208" = icmp slt i64 %".206", %".207"
  %".209" = select  i1 %".208", i64 %".206", i64 %".207"
  %".210" = mul i64 %".52", %".28"
  %".211" = mul i64 %".52", 5
  %".212" = mul i64 %".202", %".40"
  %".213" = add i64 %".212", %".209"
  %".214" = sub i64 %".205", %".202"
  %".215" = mul i64 %".214", %".38"
  br label %"loop.5"
then:
  br label %"loop.1"
else:
  %".93" = getelementptr inbounds float, ptr %".57", i64 %".81"
  %".94" = mul i64 %".62", 3
  %".95" = getelementptr inbounds float, ptr %".76", i64 %".94"
  br label %"loop.2"
after.1:
  %".200" = add i64 %".72", 1
  br label %"loop"
loop.1:
  %".85" = phi  i64 [0, %"then"], [%".90", %"body.1"]
  %".86" = icmp slt i64 %".85", %".46"
  br i1 %".86", label %"body.1", label %"after.2"
body.1:
  %".88" = getelementptr inbounds float, ptr %".76", i64 %".85"
  store <8 x float> splat (float              0x0), ptr %".88", align 4
  %".90" = add i64 %".85", 8
  br label %"loop.1"
after.2:
  br label %"after.1"
loop.2:
  %".97" = phi  i64 [0, %"else"], [%".125", %"body.2"]
  %".98" = icmp slt i64 %".97", %".65"
  br i1 %".98", label %"body.2", label %"after.3"
body.2:
  %".100" = add i64 %".69", %".97"
  %".101" = mul i64 %".26", 0
  %".102" = getelementptr inbounds float, ptr %".93", i64 %".101"
  %".103" = getelementptr inbounds float, ptr %".102", i64 %".100"
  %".104" = load float, ptr %".103", align 4
  %".105" = mul i64 %".97", 3
  %".106" = getelementptr inbounds float, ptr %".95", i64 %".105"
  store float %".104", ptr %".106", align 4
  %".108" = add i64 %".69", %".97"
  %".109" = getelementptr inbounds float, ptr %".93", i64 %".26"
  %".110" = getelementptr inbounds float, ptr %".109", i64 %".108"
  %".111" = load float, ptr %".110", align 4
  %".112" = mul i64 %".97", 3
  %".113" = add i64 %".112", 1
  %".114" = getelementptr inbounds float, ptr %".95", i64 %".113"
  store float %".111", ptr %".114", align 4
  %".116" = add i64 %".69", %".97"
  %".117" = mul i64 %".26", 2
  %".118" = getelementptr inbounds float, ptr %".93", i64 %".117"
  %".119" = getelementptr inbounds float, ptr %".118", i64 %".116"
  %".120" = load float, ptr %".119", align 4
  %".121" = mul i64 %".97", 3
  %".122" = add i64 %".121", 2
  %".123" = getelementptr inbounds float, ptr %".95", i64 %".122"
  store float %".120", ptr %".123", align 4
  %".125" = add i64 %".97", 1
  br label %"loop.2"
after.3:
  br label %"loop.3"
loop.3:
  %".128" = phi  i64 [0, %"after.3"], [%".161", %"body.3"]
  %".129" = icmp slt i64 %".128", %".62"
  br i1 %".129", label %"body.3", label %"after.4"
body.3:
  %".131" = getelementptr inbounds i32, ptr %".66", i64 %".128"
  %".132" = load i32, ptr %".131", align 4
  %".133" = sext i32 %".132" to i64
  %".134" = icmp slt i64 %".133", 0
  %".135" = select  i1 %".134", i64 0, i64 %".133"
  %".136" = mul i64 %".26", 0
  %".137" = getelementptr inbounds float, ptr %".93", i64 %".136"
  %".138" = getelementptr inbounds float, ptr %".137", i64 %".135"
  %".139" = load float, ptr %".138", align 4
  %".140" = select  i1 %".134", float              0x0, float %".139"
  %".141" = mul i64 %".128", 3
  %".142" = getelementptr inbounds float, ptr %".76", i64 %".141"
  store float %".140", ptr %".142", align 4
  %".144" = getelementptr inbounds float, ptr %".93", i64 %".26"
  %".145" = getelementptr inbounds float, ptr %".144", i64 %".135"
  %".146" = load float, ptr %".145", align 4
  %".147" = select  i1 %".134", float              0x0, float %".146"
  %".148" = mul i64 %".128", 3
  %".149" = add i64 %".148", 1
  %".150" = getelementptr inbounds float, ptr %".76", i64 %".149"
  store float %".147", ptr %".150", align 4
  %".152" = mul i64 %".26", 2
  %".153" = getelementptr inbounds float, ptr %".93", i64 %".152"
  %".154" = getelementptr inbounds float, ptr %".153", i64 %".135"
  %".155" = load float, ptr %".154", align 4
  %".156" = select  i1 %".134", float              0x0, float %".155"
  %".157" = mul i64 %".128", 3
  %".158" = add i64 %".157", 2
  %".159" = getelementptr inbounds float, ptr %".76", i64 %".158"
  store float %".156", ptr %".159", align 4
  %".161" = add i64 %".128", 1
  br label %"loop.3"
after.4:
  br label %"loop.4"
loop.4:
  %".164" = phi  i64 [%".70", %"after.4"], [%".197", %"body.4"]
  %".165" = icmp slt i64 %".164", %".44"
  br i1 %".165", label %"body.4", label %"after.5"
body.4:
  %".167" = getelementptr inbounds i32, ptr %".66", i64 %".164"
  %".168" = load i32, ptr %".167", align 4
  %".169" = sext i32 %".168" to i64
  %".170" = icmp slt i64 %".169", 0
  %".171" = select  i1 %".170", i64 0, i64 %".169"
  %".172" = mul i64 %".26", 0
  %".173" = getelementptr inbounds float, ptr %".93", i64 %".172"
  %".174" = getelementptr inbounds float, ptr %".173", i64 %".171"
  %".175" = load float, ptr %".174", align 4
  %".176" = select  i1 %".170", float              0x0, float %".175"
  %".177" = mul i64 %".164", 3
  %".178" = getelementptr inbounds float, ptr %".76", i64 %".177"
  store float %".176", ptr %".178", align 4
  %".180" = getelementptr inbounds float, ptr %".93", i64 %".26"
  %".181" = getelementptr inbounds float, ptr %".180", i64 %".171"
  %".182" = load float, ptr %".181", align 4
  %".183" = select  i1 %".170", float              0x0, float %".182"
  %".184" = mul i64 %".164", 3
  %".185" = add i64 %".184", 1
  %".186" = getelementptr inbounds float, ptr %".76", i64 %".185"
  store float %".183", ptr %".186", align 4
  %".188" = mul i64 %".26", 2
  %".189" = getelementptr inbounds float, ptr %".93", i64 %".188"
  %".190" = getelementptr inbounds float, ptr %".189", i64 %".171"
  %".191" = load float, ptr %".190", align 4
  %".192" = select  i1 %".170", float              0x0, float %".191"
  %".193" = mul i64 %".164", 3
  %".194" = add i64 %".193", 2
  %".195" = getelementptr inbounds float, ptr %".76", i64 %".194"
  store float %".192", ptr %".195", align 4
  %".197" = add i64 %".164", 1
  br label %"loop.4"
after.5:
  br label %"after.1"
loop.5:
  %".217" = phi  i64 [0, %"after"], [%".310", %"after.7"]
  %".218" = icmp slt i64 %".217", 1
  br i1 %".218", label %"body.5", label %"after.6"
body.5:
  br label %"loop.6"
after.6:
  ret void
loop.6:
  %".221" = phi  i64 [%".202", %"body.5"], [%".308", %"after.8"]
  %".222" = icmp slt i64 %".221", %".205"
  br i1 %".222", label %"body.6", label %"after.7"
body.6:
  %".224" = mul i64 %".221", %".40"
  %".225" = add i64 %".224", %".209"
  br label %"loop.7"
after.7:
  %".310" = add i64 %".217", 1
  br label %"loop.5"
loop.7:
  %".227" = phi  i64 [0, %"body.6"], [%".306", %"after.9"]
  %".228" = icmp slt i64 %".227", %".38"
  br i1 %".228", label %"body.7", label %"after.8"
body.7:
  %".230" = sub i64 %".38", 2
  %".231" = icmp slt i64 %".227", %".230"
  %".232" = select  i1 %".231", i64 %".227", i64 %".230"
  %".233" = mul i64 %".232", 6
  %".234" = getelementptr inbounds float, ptr %".55", i64 %".233"
  br label %"loop.8"
after.8:
  %".308" = add i64 %".221", 1
  br label %"loop.6"
loop.8:
  %".236" = phi  i64 [0, %"body.7"], [%".273", %"after.10"]
  %".237" = phi  <8 x float> [splat (float              0x0), %"body.7"], [%".253", %"after.10"]
  %".238" = phi  <8 x float> [splat (float              0x0), %"body.7"], [%".254", %"after.10"]
  %".239" = icmp slt i64 %".236", %".48"
  br i1 %".239", label %"body.8", label %"after.9"
body.8:
  %".241" = mul i64 %".221", %".48"
  %".242" = add i64 %".241", %".236"
  %".243" = getelementptr inbounds i32, ptr %".14", i64 %".242"
  %".244" = load i32, ptr %".243", align 4
  %".245" = sext i32 %".244" to i64
  %".246" = getelementptr inbounds float, ptr %".234", i64 %".245"
  %".247" = mul i64 %".217", %".48"
  %".248" = add i64 %".247", %".236"
  %".249" = mul i64 %".248", 48
  %".250" = getelementptr inbounds float, ptr %".8", i64 %".249"
  br label %"loop.9"
after.9:
  %".275" = add i64 %".225", %".232"
  %".276" = mul i64 %".217", 8
  %".277" = mul i64 0, 8
  %".278" = add i64 %".277", %".276"
  %".279" = getelementptr inbounds float, ptr %".18", i64 %".278"
  %".280" = load <8 x float>, ptr %".279", align 4
  %".281" = udiv i64 %".275", 1
  %".282" = sub i64 %".275", %".281"
  %".283" = mul i64 %".281", 5
  %".284" = add i64 %".210", %".283"
  %".285" = add i64 %".284", %".276"
  %".286" = fadd <8 x float> %".237", %".280"
  %".287" = getelementptr inbounds float, ptr %".10", i64 %".285"
  %".288" = shufflevector <8 x float> %".286", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  store <4 x float> %".288", ptr %".287", align 4
  %".290" = shufflevector <8 x float> %".286", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <1 x i32> <i32 4>
  %".291" = getelementptr inbounds float, ptr %".287", i64 4
  store <1 x float> %".290", ptr %".291", align 4
  %".293" = add i64 %".275", 1
  %".294" = udiv i64 %".293", 1
  %".295" = sub i64 %".293", %".294"
  %".296" = mul i64 %".294", 5
  %".297" = add i64 %".210", %".296"
  %".298" = add i64 %".297", %".276"
  %".299" = fadd <8 x float> %".238", %".280"
  %".300" = getelementptr inbounds float, ptr %".10", i64 %".298"
  %".301" = shufflevector <8 x float> %".299", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
  store <4 x float> %".301", ptr %".300", align 4
  %".303" = shufflevector <8 x float> %".299", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <1 x i32> <i32 4>
  %".304" = getelementptr inbounds float, ptr %".300", i64 4
  store <1 x float> %".303", ptr %".304", align 4
  %".306" = add i64 %".227", 2
  br label %"loop.7"
loop.9:
  %".252" = phi  i64 [0, %"body.8"], [%".271", %"body.9"]
  %".253" = phi  <8 x float> [%".237", %"body.8"], [%".264", %"body.9"]
  %".254" = phi  <8 x float> [%".238", %"body.8"], [%".270", %"body.9"]
  %".255" = icmp slt i64 %".252", 6
  br i1 %".255", label %"body.9", label %"after.10"
body.9:
  %".257" = mul i64 %".252", 8
  %".258" = getelementptr inbounds float, ptr %".250", i64 %".257"
  %".259" = load <8 x float>, ptr %".258", align 4
  %".260" = getelementptr inbounds float, ptr %".246", i64 %".252"
  %".261" = load float, ptr %".260", align 4
  %".262" = insertelement <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, float %".261", i32 0
  %".263" = shufflevector <8 x float> %".262", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".264" = call <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".263", <8 x float> %".259", <8 x float> %".253")
  %".265" = add i64 %".252", 6
  %".266" = getelementptr inbounds float, ptr %".246", i64 %".265"
  %".267" = load float, ptr %".266", align 4
  %".268" = insertelement <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, float %".267", i32 0
  %".269" = shufflevector <8 x float> %".268", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".270" = call <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".269", <8 x float> %".259", <8 x float> %".254")
  %".271" = add i64 %".252", 1
  br label %"loop.9"
after.10:
  %".273" = add i64 %".236", 1
  br label %"loop.8"
}

declare <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".1", <8 x float> %".2", <8 x float> %".3")

define void @"share"(ptr %".1")
{
entry:
  %".3" = load ptr, ptr %".1", align 8
  %".4" = getelementptr inbounds i64, ptr %".1", i64 1
  %".5" = load i64, ptr %".4", align 8
  %".6" = load ptr, ptr %".3", align 8
  %".7" = getelementptr inbounds i64, ptr %".1", i64 2
  %".8" = getelementptr inbounds ptr, ptr %".6", i64 1
  %".9" = load ptr, ptr %".8", align 8
  %".10" = icmp eq i64 %".5", 1
  %".11" = ptrtoint ptr %".9" to i64
  %".12" = icmp ne i64 %".11", 0
  br i1 %".10", label %"then", label %"else"
then:
  br label %"after"
else:
  br i1 %".12", label %"then.1", label %"else.1"
after:
  %".23" = phi  i64 [0, %"then"], [%".21", %"after.1"]
  br label %"loop"
then.1:
  %".16" = call i32 %".9"()
  %".17" = sext i32 %".16" to i64
  br label %"after.1"
else.1:
  %".19" = atomicrmw add ptr %".7", i64 1 monotonic
  br label %"after.1"
after.1:
  %".21" = phi  i64 [%".17", %"then.1"], [%".19", %"else.1"]
  br label %"after"
loop:
  %".25" = phi  i64 [0, %"after"], [%".43", %"done"]
  %".26" = icmp slt i64 %".25", %".5"
  br i1 %".26", label %"body", label %"after.2"
body:
  %".28" = add i64 %".23", %".25"
  %".29" = icmp slt i64 %".28", %".5"
  %".30" = sub i64 %".28", %".5"
  %".31" = select  i1 %".29", i64 %".28", i64 %".30"
  %".32" = add i64 %".31", 1
  %".33" = mul i64 %".32", 8
  %".34" = getelementptr inbounds i64, ptr %".1", i64 %".33"
  %".35" = getelementptr inbounds i64, ptr %".34", i64 1
  %".36" = load i64, ptr %".35", align 8
  br label %"next"
after.2:
  ret void
next:
  %".38" = atomicrmw add ptr %".34", i64 1 monotonic
  %".39" = icmp slt i64 %".38", %".36"
  br i1 %".39", label %"work", label %"done"
work:
  call void @"task"(ptr %".3", i64 %".38", i64 %".23")
  br label %"next"
done:
  %".43" = add i64 %".25", 1
  br label %"loop"
}

define void @"run"(ptr %".1", i64 %".2")
{
entry:
  %".4" = icmp sgt i64 %".2", 1
  %".5" = select  i1 %".4", i64 %".2", i64 1
  %".6" = add i64 %".5", 1
  %".7" = mul i64 %".6", 8
  %".8" = alloca i64, i64 %".7", align 64
  store ptr %".1", ptr %".8", align 8
  %".10" = getelementptr inbounds i64, ptr %".8", i64 1
  store i64 %".5", ptr %".10", align 8
  %".12" = getelementptr inbounds i64, ptr %".8", i64 2
  store i64 0, ptr %".12", align 8
  %".14" = getelementptr inbounds i64, ptr %".1", i64 1
  %".15" = load i64, ptr %".14", align 8
  br label %"loop"
loop:
  %".17" = phi  i64 [0, %"entry"], [%".32", %"body"]
  %".18" = phi  i64 [0, %"entry"], [%".23", %"body"]
  %".19" = icmp slt i64 %".17", %".5"
  br i1 %".19", label %"body", label %"after"
body:
  %".21" = add i64 %".17", 1
  %".22" = mul i64 %".15", %".21"
  %".23" = udiv i64 %".22", %".5"
  %".24" = mul i64 %".23", %".5"
  %".25" = sub i64 %".22", %".24"
  %".26" = add i64 %".17", 1
  %".27" = mul i64 %".26", 8
  %".28" = getelementptr inbounds i64, ptr %".8", i64 %".27"
  store i64 %".18", ptr %".28", align 8
  %".30" = getelementptr inbounds i64, ptr %".28", i64 1
  store i64 %".23", ptr %".30", align 8
  %".32" = add i64 %".17", 1
  br label %"loop"
after:
  %".34" = icmp eq i64 %".5", 1
  br i1 %".34", label %"then", label %"else"
then:
  call void @"share"(ptr %".8")
  br label %"after.1"
else:
  %".38" = load ptr, ptr %".1", align 8
  %".39" = load ptr, ptr %".38", align 8
  %".40" = trunc i64 %".5" to i32
  call void %".39"(ptr @"share", ptr %".8", i32 %".40", i32 0)
  br label %"after.1"
after.1:
  ret void
}
