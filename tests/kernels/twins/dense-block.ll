; ModuleID = "dense"
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
  %".39" = udiv i64 %".2", %".38"
  %".40" = mul i64 %".39", %".38"
  %".41" = sub i64 %".2", %".40"
  %".42" = udiv i64 %".39", %".36"
  %".43" = mul i64 %".42", %".36"
  %".44" = sub i64 %".39", %".43"
  %".45" = udiv i64 %".42", %".34"
  %".46" = mul i64 %".45", %".34"
  %".47" = sub i64 %".42", %".46"
  %".48" = mul i64 %".44", 16
  %".49" = add i64 %".48", 16
  %".50" = icmp slt i64 %".49", %".24"
  %".51" = select  i1 %".50", i64 %".49", i64 %".24"
  %".52" = add i64 %".41", 1
  %".53" = icmp slt i64 %".52", 2
  %".54" = select  i1 %".53", i64 %".52", i64 2
  %".55" = mul i64 %".45", %".28"
  %".56" = mul i64 %".47", 3
  %".57" = add i64 %".55", %".56"
  %".58" = getelementptr inbounds float, ptr %".6", i64 %".57"
  %".59" = mul i64 %".45", %".30"
  %".60" = mul i64 %".47", 9
  %".61" = add i64 %".59", %".60"
  %".62" = mul i64 %".45", %".34"
  %".63" = add i64 %".62", %".47"
  %".64" = mul i64 %".63", 9
  %".65" = mul i64 %".47", 2
  %".66" = alloca [128 x float], align 64
  br label %"loop"
loop:
  %".68" = phi  i64 [%".41", %"entry"], [%".259", %"after.1"]
  %".69" = icmp slt i64 %".68", %".54"
  br i1 %".69", label %"body", label %"after"
body:
  br label %"loop.1"
after:
  ret void
loop.1:
  %".72" = phi  i64 [0, %"body"], [%".257", %"after.2"]
  %".73" = icmp slt i64 %".72", %".32"
  br i1 %".73", label %"body.1", label %"after.1"
body.1:
  %".75" = add i64 %".72", 1
  %".76" = icmp slt i64 %".75", %".32"
  %".77" = select  i1 %".76", i64 %".75", i64 %".32"
  br label %"loop.2"
after.1:
  %".259" = add i64 %".68", 1
  br label %"loop"
loop.2:
  %".79" = phi  i64 [0, %"body.1"], [%".255", %"after.3"]
  %".80" = icmp slt i64 %".79", 3
  br i1 %".80", label %"body.2", label %"after.2"
body.2:
  %".82" = add i64 %".79", 2
  %".83" = icmp slt i64 %".82", 3
  %".84" = select  i1 %".83", i64 %".82", i64 3
  %".85" = icmp eq i64 %".72", 0
  %".86" = icmp eq i64 %".79", 0
  %".87" = and i1 %".85", %".86"
  %".88" = icmp eq i64 %".77", %".32"
  %".89" = icmp eq i64 %".84", 3
  %".90" = and i1 %".88", %".89"
  br label %"loop.3"
after.2:
  %".257" = add i64 %".72", 1
  br label %"loop.1"
loop.3:
  %".92" = phi  i64 [%".48", %"body.2"], [%".253", %"after.7"]
  %".93" = icmp slt i64 %".92", %".51"
  br i1 %".93", label %"body.3", label %"after.3"
body.3:
  %".95" = sub i64 %".92", %".48"
  %".96" = mul i64 %".95", 8
  br i1 %".87", label %"then", label %"else"
after.3:
  %".255" = add i64 %".79", 2
  br label %"loop.2"
then:
  br label %"after.4"
else:
  %".99" = getelementptr inbounds float, ptr %".66", i64 %".96"
  %".100" = load <8 x float>, ptr %".99", align 4
  %".101" = add i64 %".96", 8
  %".102" = getelementptr inbounds float, ptr %".66", i64 %".101"
  %".103" = load <8 x float>, ptr %".102", align 4
  br label %"after.4"
after.4:
  %".105" = phi  <8 x float> [splat (float              0x0), %"then"], [%".100", %"else"]
  %".106" = phi  <8 x float> [splat (float              0x0), %"then"], [%".103", %"else"]
  %".107" = add i64 %".65", %".68"
  %".108" = mul i64 %".107", %".32"
  br label %"loop.4"
loop.4:
  %".110" = phi  i64 [%".72", %"after.4"], [%".154", %"after.6"]
  %".111" = phi  <8 x float> [%".105", %"after.4"], [%".135", %"after.6"]
  %".112" = phi  <8 x float> [%".106", %"after.4"], [%".136", %"after.6"]
  %".113" = icmp slt i64 %".110", %".77"
  br i1 %".113", label %"body.4", label %"after.5"
body.4:
  %".115" = mul i64 %".110", %".26"
  %".116" = add i64 %".115", %".92"
  %".117" = getelementptr inbounds i32, ptr %".14", i64 %".116"
  %".118" = load i32, ptr %".117", align 4
  %".119" = icmp slt i32 %".118", 0
  %".120" = sext i32 %".118" to i64
  %".121" = getelementptr inbounds float, ptr %".58", i64 %".120"
  %".122" = select  i1 %".119", ptr %".8", ptr %".121"
  %".123" = getelementptr inbounds i32, ptr %".117", i64 1
  %".124" = load i32, ptr %".123", align 4
  %".125" = icmp slt i32 %".124", 0
  %".126" = sext i32 %".124" to i64
  %".127" = getelementptr inbounds float, ptr %".58", i64 %".126"
  %".128" = select  i1 %".125", ptr %".8", ptr %".127"
  %".129" = add i64 %".108", %".110"
  %".130" = mul i64 %".129", 3
  %".131" = mul i64 %".130", 8
  %".132" = getelementptr inbounds float, ptr %".10", i64 %".131"
  br label %"loop.5"
after.5:
  br i1 %".90", label %"then.1", label %"else.1"
loop.5:
  %".134" = phi  i64 [%".79", %"body.4"], [%".152", %"body.5"]
  %".135" = phi  <8 x float> [%".111", %"body.4"], [%".146", %"body.5"]
  %".136" = phi  <8 x float> [%".112", %"body.4"], [%".151", %"body.5"]
  %".137" = icmp slt i64 %".134", %".84"
  br i1 %".137", label %"body.5", label %"after.6"
body.5:
  %".139" = mul i64 %".134", 8
  %".140" = getelementptr inbounds float, ptr %".132", i64 %".139"
  %".141" = load <8 x float>, ptr %".140", align 4
  %".142" = getelementptr inbounds float, ptr %".122", i64 %".134"
  %".143" = load float, ptr %".142", align 4
  %".144" = insertelement <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, float %".143", i32 0
  %".145" = shufflevector <8 x float> %".144", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".146" = call <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".145", <8 x float> %".141", <8 x float> %".135")
  %".147" = getelementptr inbounds float, ptr %".128", i64 %".134"
  %".148" = load float, ptr %".147", align 4
  %".149" = insertelement <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, float %".148", i32 0
  %".150" = shufflevector <8 x float> %".149", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".151" = call <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".150", <8 x float> %".141", <8 x float> %".136")
  %".152" = add i64 %".134", 1
  br label %"loop.5"
after.6:
  %".154" = add i64 %".110", 1
  br label %"loop.4"
then.1:
  %".157" = mul i64 %".68", 8
  %".158" = mul i64 %".65", 8
  %".159" = add i64 %".158", %".157"
  %".160" = getelementptr inbounds float, ptr %".18", i64 %".159"
  %".161" = load <8 x float>, ptr %".160", align 4
  %".162" = icmp eq i64 %".68", 1
  br i1 %".162", label %"then.2", label %"else.2"
else.1:
  %".247" = getelementptr inbounds float, ptr %".66", i64 %".96"
  store <8 x float> %".111", ptr %".247", align 4
  %".249" = add i64 %".96", 8
  %".250" = getelementptr inbounds float, ptr %".66", i64 %".249"
  store <8 x float> %".112", ptr %".250", align 4
  br label %"after.7"
after.7:
  %".253" = add i64 %".92", 2
  br label %"loop.3"
then.2:
  %".164" = icmp slt i64 %".92", %".51"
  br i1 %".164", label %"then.3", label %"after.9"
else.2:
  %".208" = icmp slt i64 %".92", %".51"
  br i1 %".208", label %"then.5", label %"after.11"
after.8:
  br label %"after.7"
then.3:
  %".166" = udiv i64 %".92", 1
  %".167" = sub i64 %".92", %".166"
  %".168" = getelementptr inbounds i32, ptr %".16", i64 %".166"
  %".169" = load i32, ptr %".168", align 4
  %".170" = sext i32 %".169" to i64
  %".171" = add i64 %".61", %".170"
  %".172" = add i64 %".171", %".157"
  %".173" = fadd <8 x float> %".111", %".161"
  %".174" = getelementptr inbounds float, ptr %".22", i64 %".172"
  %".175" = load <1 x float>, ptr %".174", align 4
  %".176" = shufflevector <1 x float> %".175", <1 x float> <float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".177" = shufflevector <8 x float> <float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0>, <8 x float> %".176", <8 x i32> <i32 8, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %".178" = fadd <8 x float> %".173", %".177"
  %".179" = fcmp olt <8 x float> %".178", splat (float              0x0)
  %".180" = select  <8 x i1> %".179", <8 x float> splat (float              0x0), <8 x float> %".178"
  %".181" = getelementptr inbounds float, ptr %".12", i64 %".172"
  %".182" = shufflevector <8 x float> %".180", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <1 x i32> <i32 0>
  store <1 x float> %".182", ptr %".181", align 4
  br label %"after.9"
after.9:
  %".185" = add i64 %".92", 1
  %".186" = icmp slt i64 %".185", %".51"
  br i1 %".186", label %"then.4", label %"after.10"
then.4:
  %".188" = udiv i64 %".185", 1
  %".189" = sub i64 %".185", %".188"
  %".190" = getelementptr inbounds i32, ptr %".16", i64 %".188"
  %".191" = load i32, ptr %".190", align 4
  %".192" = sext i32 %".191" to i64
  %".193" = add i64 %".61", %".192"
  %".194" = add i64 %".193", %".157"
  %".195" = fadd <8 x float> %".112", %".161"
  %".196" = getelementptr inbounds float, ptr %".22", i64 %".194"
  %".197" = load <1 x float>, ptr %".196", align 4
  %".198" = shufflevector <1 x float> %".197", <1 x float> <float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".199" = shufflevector <8 x float> <float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0>, <8 x float> %".198", <8 x i32> <i32 8, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %".200" = fadd <8 x float> %".195", %".199"
  %".201" = fcmp olt <8 x float> %".200", splat (float              0x0)
  %".202" = select  <8 x i1> %".201", <8 x float> splat (float              0x0), <8 x float> %".200"
  %".203" = getelementptr inbounds float, ptr %".12", i64 %".194"
  %".204" = shufflevector <8 x float> %".202", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <1 x i32> <i32 0>
  store <1 x float> %".204", ptr %".203", align 4
  br label %"after.10"
after.10:
  br label %"after.8"
then.5:
  %".210" = udiv i64 %".92", 1
  %".211" = sub i64 %".92", %".210"
  %".212" = getelementptr inbounds i32, ptr %".16", i64 %".210"
  %".213" = load i32, ptr %".212", align 4
  %".214" = sext i32 %".213" to i64
  %".215" = add i64 %".61", %".214"
  %".216" = add i64 %".215", %".157"
  %".217" = fadd <8 x float> %".111", %".161"
  %".218" = getelementptr inbounds float, ptr %".22", i64 %".216"
  %".219" = load <8 x float>, ptr %".218", align 4
  %".220" = fadd <8 x float> %".217", %".219"
  %".221" = fcmp olt <8 x float> %".220", splat (float              0x0)
  %".222" = select  <8 x i1> %".221", <8 x float> splat (float              0x0), <8 x float> %".220"
  %".223" = getelementptr inbounds float, ptr %".12", i64 %".216"
  store <8 x float> %".222", ptr %".223", align 4
  br label %"after.11"
after.11:
  %".226" = add i64 %".92", 1
  %".227" = icmp slt i64 %".226", %".51"
  br i1 %".227", label %"then.6", label %"after.12"
then.6:
  %".229" = udiv i64 %".226", 1
  %".230" = sub i64 %".226", %".229"
  %".231" = getelementptr inbounds i32, ptr %".16", i64 %".229"
  %".232" = load i32, ptr %".231", align 4
  %".233" = sext i32 %".232" to i64
  %".234" = add i64 %".61", %".233"
  %".235" = add i64 %".234", %".157"
  %".236" = fadd <8 x float> %".112", %".161"
  %".237" = getelementptr inbounds float, ptr %".22", i64 %".235"
  %".238" = load <8 x float>, ptr %".237", align 4
  %".239" = fadd <8 x float> %".236", %".238"
  %".240" = fcmp olt <8 x float> %".239", splat (float              0x0)
  %".241" = select  <8 x i1> %".240", <8 x float> splat (float              0x0), <8 x float> %".239"
  %".242" = getelementptr inbounds float, ptr %".12", i64 %".235"
  store <8 x float> %".241", ptr %".242", align 4
  br label %"after.12"
after.12:
  br label %"after.8"
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
